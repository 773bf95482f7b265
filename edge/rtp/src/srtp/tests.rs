use proptest::prelude::*;

use super::*;
use crate::{FRAME_TICKS, RtpSender, RtpTicks, Seq, Ssrc};

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

fn key(seed: u8) -> SrtpKey {
    SrtpKey::new(std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8)))
}

// RFC 3711 appendix B.2.
#[test]
fn the_key_stream_is_that_of_the_standard() {
    let cipher = Aes128::new(&unhex::<16>("2B7E151628AED2A6ABF7158809CF4F3C").into());
    let mut stream = vec![0; 0xff02 * 16];
    add_key_stream(&cipher, unhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000"), &mut stream);
    let block = |at: usize| -> [u8; 16] { stream[at * 16..][..16].try_into().unwrap() };
    assert_eq!(block(0), unhex("E03EAD0935C95E80E166B16DD92B4EB4"));
    assert_eq!(block(1), unhex("D23513162B02D0F72A43A2FE4A5F97AB"));
    assert_eq!(block(2), unhex("41E95B3BB0A2E8DD477901E4FCA894C0"));
    assert_eq!(block(0xfeff), unhex("EC8CDF7398607CB0F2D21675EA9EA1E4"));
    assert_eq!(block(0xff00), unhex("362B7C3C6773516318A077D7FC5073AE"));
    assert_eq!(block(0xff01), unhex("6A2CC3787889374FBEB4C81B17BA6C44"));
}

// RFC 3711 appendix B.3: the derived keys show in what they do, as the session keys themselves are not kept.
#[test]
fn the_keys_are_derived_as_the_standard_says() {
    let master = SrtpKey {
        key: unhex("E1F97A0D3E018BE0D64FA32C06DE4139"),
        salt: unhex("0EC675AD498AFEEBB6960B3AABE6"),
    };
    let keys = Keys::derive(&master, 0);
    assert_eq!(keys.salt, unhex("30CBBC08863D8C85D49DB34A9AE1"));
    let (mut ours, mut theirs) = ([aes::Block::from([0x55; 16])], [aes::Block::from([0x55; 16])]);
    keys.cipher.encrypt_blocks(&mut ours);
    Aes128::new(&unhex::<16>("C61E7A93744F39EE10734AFE3FF7A087").into()).encrypt_blocks(&mut theirs);
    assert_eq!(ours, theirs);
    let auth: [u8; 20] = unhex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4");
    let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth), b"ab");
    assert_eq!(&keys.tag(b"a", b"b")[..], expected.as_ref());
}

fn packet(sender: &mut RtpSender, out: &mut [u8]) -> usize {
    sender.write_into(8, &[0xd5; 160], FRAME_TICKS, out).unwrap()
}

#[test]
fn packets_are_opened_across_many_roll_overs_with_loss_and_disorder() {
    for profile in [SrtpProfile::Sha1Tag80, SrtpProfile::Sha1Tag32] {
        let mut rtp = RtpSender::new(Ssrc(0xdead_beef), Seq(65_000), RtpTicks(0));
        let (mut out, mut into) = (SrtpSender::new(profile, &key(1)), SrtpReceiver::new(profile, &key(1)));
        let mut held: Option<Vec<u8>> = None;
        for number in 0..200_000u32 {
            let mut buffer = [0; 200];
            let len = packet(&mut rtp, &mut buffer);
            let clear = buffer[..len].to_vec();
            let end = out.protect_rtp(&mut buffer, len).unwrap();
            assert_eq!(end, len + profile.tag_len());
            assert_ne!(buffer[12..len], clear[12..]);
            let mut sent = buffer[..end].to_vec();
            match number % 50 {
                0..=9 => continue,
                10 => held = Some(sent),
                _ => {
                    assert_eq!(into.open_rtp(&mut sent), Ok(len));
                    assert_eq!(sent[..len], clear);
                    if number % 50 == 15
                        && let Some(mut late) = held.take()
                    {
                        assert_eq!(into.open_rtp(&mut late.clone()), Ok(len), "late, not lost");
                        assert_eq!(into.open_rtp(&mut late), Err(SrtpError::Replayed));
                    }
                }
            }
        }
        assert_eq!(into.refused(), 200_000 / 50, "the replays");
    }
}

#[test]
fn a_forged_packet_moves_nothing() {
    let profile = SrtpProfile::Sha1Tag32;
    let mut rtp = RtpSender::new(Ssrc(1), Seq(10), RtpTicks(0));
    let (mut out, mut into) = (SrtpSender::new(profile, &key(1)), SrtpReceiver::new(profile, &key(1)));
    let mut other = SrtpSender::new(profile, &key(2));
    let mut buffer = [0; 200];
    let len = packet(&mut rtp, &mut buffer);
    let mut forged = buffer;
    let forged_len = other.protect_rtp(&mut forged, len).unwrap();
    assert_eq!(into.open_rtp(&mut forged[..forged_len]), Err(SrtpError::Forged));
    let end = out.protect_rtp(&mut buffer, len).unwrap();
    assert_eq!(into.open_rtp(&mut buffer[..end]), Ok(len));
    // Far ahead and wrong: the window must not follow it.
    let mut far = [0; 200];
    far[..len].copy_from_slice(&buffer[..len]);
    far[2] = 0x70;
    let far_len = other.protect_rtp(&mut far, len).unwrap();
    assert_eq!(into.open_rtp(&mut far[..far_len]), Err(SrtpError::Forged));
    let len = packet(&mut rtp, &mut buffer);
    let end = out.protect_rtp(&mut buffer, len).unwrap();
    assert_eq!(into.open_rtp(&mut buffer[..end]), Ok(len));
}

#[test]
fn reports_are_encrypted_and_not_taken_twice() {
    let mut out = SrtpSender::new(SrtpProfile::Sha1Tag32, &key(3));
    let mut into = SrtpReceiver::new(SrtpProfile::Sha1Tag32, &key(3));
    for number in 0..100u8 {
        let mut report = [0; 64];
        report[..12].copy_from_slice(&[0x80, 201, 0, 2, 0, 0, 0, 7, 1, 2, 3, number]);
        let end = out.protect_rtcp(&mut report, 12).unwrap();
        assert_eq!(end, 12 + 14);
        assert_ne!(report[8..12], [1, 2, 3, number]);
        let mut again = report;
        assert_eq!(into.open_rtcp(&mut report[..end]), Ok(12));
        assert_eq!(report[8..12], [1, 2, 3, number]);
        assert_eq!(into.open_rtcp(&mut again[..end]), Err(SrtpError::Replayed));
    }
}

#[test]
fn a_flood_of_sources_is_bounded() {
    let mut into = SrtpReceiver::new(SrtpProfile::Sha1Tag80, &key(1));
    for source in 0..20 {
        let mut rtp = RtpSender::new(Ssrc(source), Seq(1), RtpTicks(0));
        let mut buffer = [0; 200];
        let len = packet(&mut rtp, &mut buffer);
        let end = SrtpSender::new(SrtpProfile::Sha1Tag80, &key(1)).protect_rtp(&mut buffer, len).unwrap();
        let opened = into.open_rtp(&mut buffer[..end]);
        assert_eq!(opened.is_ok(), (source as usize) < MAX_SOURCES);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_opener(bytes: Vec<u8>) {
        let mut into = SrtpReceiver::new(SrtpProfile::Sha1Tag80, &key(1));
        prop_assert!(into.open_rtp(&mut bytes.clone()).is_err());
        prop_assert!(into.open_rtcp(&mut bytes.clone()).is_err());
        let mut room = bytes.clone();
        let mut out = SrtpSender::new(SrtpProfile::Sha1Tag80, &key(1));
        let _ = out.protect_rtp(&mut room, bytes.len());
        let _ = out.protect_rtcp(&mut room, bytes.len());
    }

    #[test]
    fn any_changed_octet_is_noticed(at in 0usize..182, flip in 1u8..) {
        let mut rtp = RtpSender::new(Ssrc(9), Seq(1), RtpTicks(0));
        let mut buffer = [0; 200];
        let len = packet(&mut rtp, &mut buffer);
        let end = SrtpSender::new(SrtpProfile::Sha1Tag80, &key(1)).protect_rtp(&mut buffer, len).unwrap();
        buffer[at] ^= flip;
        let mut into = SrtpReceiver::new(SrtpProfile::Sha1Tag80, &key(1));
        prop_assert!(into.open_rtp(&mut buffer[..end]).is_err());
    }

    #[test]
    fn the_nearest_index_is_never_half_a_round_away(newest in 0u64..1 << 40, seq: u16) {
        let index = nearest(newest, seq);
        prop_assert_eq!(index as u16, seq);
        prop_assert!(index.abs_diff(newest) <= 0x8000 || newest < 0x1_0000);
    }
}
