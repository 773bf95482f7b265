//! The key in a real TPM, in software: made, found after a restart, signed with, gone after a clearing.

use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use trunkline_tpm::swtpm::Swtpm;
use trunkline_tpm::{DEFAULT_HANDLE, Handle, Tpm, TpmError, TpmKey};

fn signs(key: &TpmKey, message: &[u8]) {
    let hash: [u8; 32] = digest(&SHA256, message).as_ref().try_into().expect("32 bytes");
    let signature = key.sign(&hash).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public());
    public.verify(message, &signature).expect("the key's own signature");
    assert!(public.verify(b"something else", &signature).is_err());
}

#[test]
fn the_key_is_made_once_signs_and_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(swtpm) = Swtpm::start(dir.path()).unwrap() else { return };
    let tpm = Tpm::at(swtpm.device());
    let key = tpm.key_or_make(DEFAULT_HANDLE).unwrap();
    // More often than a TPM has places for keys in memory.
    for round in 0..8_u8 {
        signs(&key, &[round; 100]);
        assert_eq!(tpm.key_or_make(DEFAULT_HANDLE).unwrap().public(), key.public());
    }
    drop(swtpm);
    assert!(matches!(tpm.key_or_make(DEFAULT_HANDLE), Err(TpmError::Talk { .. })), "nobody listens");

    let _swtpm = Swtpm::start(dir.path()).unwrap().unwrap();
    signs(&tpm.key(DEFAULT_HANDLE, key.public()).unwrap(), b"after the restart");
    let mut other = key.public().to_vec();
    other[7] ^= 1;
    assert!(matches!(tpm.key(DEFAULT_HANDLE, &other), Err(TpmError::Gone { .. })));
}

#[test]
fn processes_that_want_it_at_once_agree_on_one_key_and_use_it_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let Some(swtpm) = Swtpm::start(dir.path()).unwrap() else { return };
    let keys: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            let key = Tpm::at(swtpm.device()).key_or_make(DEFAULT_HANDLE).unwrap();
            for round in 0..5_u8 {
                signs(&key, &[round]);
            }
            key.public().to_vec()
        };
        let all: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_cleared_tpm_is_told_and_gives_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let Some(swtpm) = Swtpm::start(dir.path()).unwrap() else { return };
    let tpm = Tpm::at(swtpm.device());
    let key = tpm.key_or_make(DEFAULT_HANDLE).unwrap();
    swtpm.clear().unwrap();
    let gone = key.sign(&[0; 32]).unwrap_err();
    assert!(matches!(gone, TpmError::Gone { .. }) && gone.to_string().contains("join as a new one"));
    assert!(matches!(tpm.key(DEFAULT_HANDLE, key.public()), Err(TpmError::Gone { .. })));
    let new = tpm.key_or_make(DEFAULT_HANDLE).unwrap();
    assert_ne!(new.public(), key.public(), "the seed is another one");
    assert!(matches!(tpm.key(DEFAULT_HANDLE, key.public()), Err(TpmError::Gone { .. })));
}

#[test]
fn an_owners_password_and_a_full_memory_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let Some(swtpm) = Swtpm::start(dir.path()).unwrap() else { return };
    let tpm = Tpm::at(swtpm.device());
    let mut places = (0x8102_0001..).map(|number| Handle::new(number).unwrap());
    let full =
        places.by_ref().take(2_000).map(|handle| tpm.key_or_make(handle)).find_map(Result::err).unwrap();
    assert!(matches!(full, TpmError::NoRoom), "{full}");
    swtpm.clear().unwrap();
    swtpm.set_owner_password().unwrap();
    let owned = tpm.key_or_make(DEFAULT_HANDLE).unwrap_err();
    assert!(matches!(owned, TpmError::OwnerPassword), "{owned}");
}
