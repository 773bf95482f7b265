//! Commands as bytes, and what a TPM answers (part 1 §18, part 2 for the structures, part 3 for the commands).
//!
//! ```text
//! command  tag u16 │ size u32 │ command u32 │ handles u32 … │ [size u32 │ session …] │ parameters
//! answer   tag u16 │ size u32 │ code u32    │ [handle u32]  │ [size u32] parameters │ [session …]
//! ```

/// No session follows (part 2 §6.9).
const TAG_PLAIN: u16 = 0x8001;
/// Sessions follow.
const TAG_SESSIONS: u16 = 0x8002;
/// What a TPM 1.2 answers to a command that it cannot read.
const TAG_OLD: u16 = 0x00C4;

const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;

const CREATE_PRIMARY: u32 = 0x131;
const EVICT_CONTROL: u32 = 0x120;
const READ_PUBLIC: u32 = 0x173;
const SIGN: u32 = 0x15D;
const FLUSH_CONTEXT: u32 = 0x165;

const ALG_ECC: u16 = 0x0023;
const ALG_SHA256: u16 = 0x000B;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const CURVE_P256: u16 = 0x0003;
const ST_HASHCHECK: u16 = 0x8024;

/// fixedTPM, fixedParent and sensitiveDataOrigin: made inside, and never to leave. userWithAuth: an empty password.
/// noDA: wrong passwords elsewhere lock it out of nothing. sign: nothing else (part 2 §8.3).
const ATTRIBUTES: u32 = 0x0004_0472;

/// Tells this key from others that the same seed gives (SHA-256 of `trunkline box key 1`).
const UNIQUE: [u8; 32] = [
    0xb9, 0xbe, 0xb4, 0xf4, 0x42, 0x08, 0x37, 0x54, 0x58, 0xca, 0x8c, 0x39, 0x1a, 0x1b, 0x1e, 0xee, 0xf1,
    0xa2, 0x30, 0x27, 0x69, 0x5a, 0xd2, 0x31, 0x06, 0xd5, 0xb3, 0x13, 0x5c, 0xcd, 0x05, 0x18,
];

/// A point of P-256 as X.509 has it: `04`, x, y (SEC 1 §2.3.3).
pub(crate) const POINT: usize = 65;

/// Returns the command that makes the key, or makes it again: the same seed gives the same one.
pub(crate) fn create_primary() -> Vec<u8> {
    let mut parameters = Vec::new();
    // No password, no data of ours in it.
    sized(&mut parameters, &[0, 0, 0, 0]);
    sized(&mut parameters, &template());
    // No words of ours, no PCRs.
    parameters.extend([0, 0]);
    parameters.extend([0, 0, 0, 0]);
    command(CREATE_PRIMARY, &[OWNER], true, &parameters)
}

/// Returns the command that keeps a loaded key at a persistent handle.
pub(crate) fn keep_at(loaded: u32, handle: u32) -> Vec<u8> {
    command(EVICT_CONTROL, &[OWNER, loaded], true, &handle.to_be_bytes())
}

/// Returns the command that takes a loaded key out of memory again.
pub(crate) fn flush(loaded: u32) -> Vec<u8> {
    command(FLUSH_CONTEXT, &[], false, &loaded.to_be_bytes())
}

/// Returns the command that asks for the public part of what lies at a handle.
pub(crate) fn ask_public(handle: u32) -> Vec<u8> {
    command(READ_PUBLIC, &[handle], false, &[])
}

/// Returns the command that signs a SHA-256.
pub(crate) fn sign(handle: u32, sha256: &[u8; 32]) -> Vec<u8> {
    let mut parameters = Vec::new();
    sized(&mut parameters, sha256);
    for word in [ALG_ECDSA, ALG_SHA256, ST_HASHCHECK] {
        parameters.extend(word.to_be_bytes());
    }
    parameters.extend(NULL.to_be_bytes());
    parameters.extend([0, 0]);
    command(SIGN, &[handle], true, &parameters)
}

/// What a TPM answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It did it; what follows the code.
    Done {
        /// With sessions, so that their bytes stand behind the parameters.
        sessions: bool,
        /// Handle, if any, and parameters.
        body: &'a [u8],
    },
    /// It did not, with this code (part 2 §6.6).
    Code(u32),
    /// It is a TPM 1.2.
    Old,
}

impl<'a> Reply<'a> {
    /// Reads a whole answer; `None` for what is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut read = Reader(bytes);
        let (tag, size, code) = (read.u16()?, read.u32()?, read.u32()?);
        if usize::try_from(size).ok()? != bytes.len() {
            return None;
        }
        match (tag, code) {
            (TAG_OLD, _) => Some(Self::Old),
            (TAG_PLAIN | TAG_SESSIONS, 0) => Some(Self::Done { sessions: tag == TAG_SESSIONS, body: read.0 }),
            (TAG_PLAIN | TAG_SESSIONS, code) => Some(Self::Code(code)),
            _ => None,
        }
    }
}

/// Returns how long the answer is that begins so, header and all; `None` before its size is there.
pub(crate) fn length(begin: &[u8]) -> Option<usize> {
    let mut read = Reader(begin);
    read.u16()?;
    usize::try_from(read.u32()?).ok()
}

/// Reads the handle of a loaded key from the answer to [`create_primary`].
pub(crate) fn read_loaded(body: &[u8]) -> Option<u32> {
    Reader(body).u32()
}

/// Reads the public part from the answer to the question for it: the point `04`, x, y of a key as this crate makes
/// them. `None` for every other key, and for what is none.
pub fn read_public(body: &[u8]) -> Option<[u8; 65]> {
    let mut read = Reader(Reader(body).sized()?);
    let fits = read.u16()? == ALG_ECC
        && read.u16()? == ALG_SHA256
        && read.u32()? == ATTRIBUTES
        && read.sized()?.is_empty()
        && read.u16()? == ALG_NULL
        && read.u16()? == ALG_ECDSA
        && read.u16()? == ALG_SHA256
        && read.u16()? == CURVE_P256
        && read.u16()? == ALG_NULL;
    let (x, y) = (read.number()?, read.number()?);
    let mut point = [4; POINT];
    point[1..33].copy_from_slice(&x);
    point[33..].copy_from_slice(&y);
    (fits && read.0.is_empty()).then_some(point)
}

/// Reads a signature from the answer to the command that signs, as X.509 and TLS have it: `SEQUENCE { r, s }` in DER
/// (RFC 3279 §2.2.3).
pub fn read_signature(body: &[u8]) -> Option<Vec<u8>> {
    let mut read = Reader(body);
    let parameters = read.u32()?;
    let mut read = Reader(read.take(usize::try_from(parameters).ok()?)?);
    if (read.u16()?, read.u16()?) != (ALG_ECDSA, ALG_SHA256) {
        return None;
    }
    let (r, s) = (integer(&read.number()?), integer(&read.number()?));
    // Two integers of 35 bytes at most: every length is one byte.
    let mut der = vec![0x30, u8::try_from(r.len() + s.len()).ok()?];
    der.extend(r);
    der.extend(s);
    read.0.is_empty().then_some(der)
}

/// A number of 32 bytes as INTEGER: without zeros before it, but with one where it would look negative.
fn integer(number: &[u8; 32]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
    let digits = &number[zeros..];
    let pad = usize::from(digits[0] & 0x80 != 0);
    let mut der = vec![0x02, (digits.len() + pad) as u8];
    der.extend(std::iter::repeat_n(0, pad));
    der.extend(digits);
    der
}

/// The public part that is asked for (TPMT_PUBLIC, part 2 §12.2.4).
fn template() -> Vec<u8> {
    let mut public = Vec::new();
    public.extend(ALG_ECC.to_be_bytes());
    public.extend(ALG_SHA256.to_be_bytes());
    public.extend(ATTRIBUTES.to_be_bytes());
    sized(&mut public, &[]);
    for word in [ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL] {
        public.extend(word.to_be_bytes());
    }
    sized(&mut public, &UNIQUE);
    sized(&mut public, &[0; 32]);
    public
}

/// One command; with the empty password as its only session where it needs a right.
pub(crate) fn command(code: u32, handles: &[u32], password: bool, parameters: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(code.to_be_bytes());
    for handle in handles {
        body.extend(handle.to_be_bytes());
    }
    if password {
        // Size of the session, which is: its handle, no nonce, no attributes, no password.
        body.extend(9_u32.to_be_bytes());
        body.extend(PASSWORD.to_be_bytes());
        body.extend([0, 0, 0, 0, 0]);
    }
    body.extend(parameters);
    let mut whole = Vec::with_capacity(6 + body.len());
    whole.extend(if password { TAG_SESSIONS } else { TAG_PLAIN }.to_be_bytes());
    whole.extend(((6 + body.len()) as u32).to_be_bytes());
    whole.extend(body);
    whole
}

/// A field with its size before it (TPM2B, part 2 §10.4); all that are written here are shorter than 64 KiB.
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// Takes field after field; `None` where there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = self.u16()?;
        self.take(usize::from(size))
    }

    /// A number of 1 to 32 bytes; a TPM may leave out the zeros before it.
    fn number(&mut self) -> Option<[u8; 32]> {
        let bytes = self.sized().filter(|bytes| !bytes.is_empty())?;
        let mut number = [0; 32];
        number[32_usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The public part of a key with these coordinates, as a TPM answers it.
    fn public(x: &[u8], y: &[u8]) -> Vec<u8> {
        let mut inner = template();
        inner.truncate(inner.len() - 68);
        sized(&mut inner, x);
        sized(&mut inner, y);
        let mut body = Vec::new();
        sized(&mut body, &inner);
        // Its two names.
        sized(&mut body, &[0; 34]);
        sized(&mut body, &[0; 34]);
        body
    }

    fn signature(r: &[u8], s: &[u8]) -> Vec<u8> {
        let mut inner = Vec::new();
        inner.extend(ALG_ECDSA.to_be_bytes());
        inner.extend(ALG_SHA256.to_be_bytes());
        sized(&mut inner, r);
        sized(&mut inner, s);
        let mut body = (inner.len() as u32).to_be_bytes().to_vec();
        body.extend(inner);
        body
    }

    #[test]
    fn commands_are_the_bytes_of_the_specification() {
        // Part 3 §15.5 has the fields of ReadPublic, §28.4 those of FlushContext; the sizes count the header.
        assert_eq!(ask_public(0x8102_0001), [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x73, 0x81, 2, 0, 1]);
        assert_eq!(flush(0x8000_0000), [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, 0x80, 0, 0, 0]);
        let keep = keep_at(0x8000_0000, 0x8102_0001);
        assert_eq!(length(&keep), Some(keep.len()));
        assert_eq!(keep[18..31], [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        assert_eq!(sign(1, &[7; 32]).len(), 10 + 4 + 13 + 34 + 4 + 8);
        assert_eq!(length(&create_primary()), Some(create_primary().len()));
    }

    #[test]
    fn an_answer_says_that_it_was_done_or_why_not_or_comes_from_an_old_tpm() {
        let done = [0x80, 2, 0, 0, 0, 12, 0, 0, 0, 0, 5, 6];
        assert_eq!(Reply::parse(&done), Some(Reply::Done { sessions: true, body: &[5, 6] }));
        assert_eq!(Reply::parse(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x8b]), Some(Reply::Code(0x18b)));
        assert_eq!(Reply::parse(&[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0x1e]), Some(Reply::Old));
        assert_eq!(Reply::parse(&done[..11]), None, "cut off");
        assert_eq!(Reply::parse(&[0x80, 3, 0, 0, 0, 10, 0, 0, 0, 0]), None, "no such tag");
    }

    #[test]
    fn a_key_that_could_leave_or_do_something_else_is_not_taken_for_ours() {
        let good = public(&[1; 32], &[2; 32]);
        assert!(read_public(&good).is_some());
        // Type, name, attributes, policy, scheme, hash, curve: whichever bit differs.
        for at in (2..22).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut other = good.clone();
            other[at.0] ^= 1 << at.1;
            assert_eq!(read_public(&other), None, "{at:?}");
        }
    }

    proptest! {
        #[test]
        fn a_public_key_reads_back_as_it_was_written_with_and_without_its_zeros(
            x in vec(any::<u8>(), 1..=32), y in vec(any::<u8>(), 1..=32)
        ) {
            let point = read_public(&public(&x, &y)).unwrap();
            prop_assert_eq!(point[0], 4);
            prop_assert!(point[1..33].ends_with(&x) && point[33..].ends_with(&y));
            prop_assert!(point[1..33 - x.len()].iter().chain(&point[33..65 - y.len()]).all(|byte| *byte == 0));
        }

        #[test]
        fn a_signature_becomes_der_with_the_shortest_integers(
            r in vec(any::<u8>(), 1..=32), s in vec(any::<u8>(), 1..=32)
        ) {
            let der = read_signature(&signature(&r, &s)).unwrap();
            prop_assert_eq!(usize::from(der[1]), der.len() - 2);
            let (mut rest, mut found) = (&der[2..], Vec::new());
            while let [2, length, tail @ ..] = rest {
                let (number, after) = tail.split_at(usize::from(*length));
                prop_assert!(number[0] & 0x80 == 0, "negative");
                prop_assert!(number.len() == 1 || number[0] != 0 || number[1] & 0x80 != 0, "padded");
                found.push(number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
                rest = after;
            }
            prop_assert!(rest.is_empty());
            let bare = |n: &[u8]| n.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            prop_assert_eq!(found, vec![bare(&r), bare(&s)]);
        }

        #[test]
        fn no_bytes_panic_the_reader(bytes in vec(any::<u8>(), 0..200)) {
            let _ = (read_public(&bytes), read_signature(&bytes), length(&bytes), read_loaded(&bytes));
            let _ = Reply::parse(&bytes);
        }

        #[test]
        fn no_cut_or_changed_answer_panics_the_reader(
            cut in 0..200usize, at in 0..110usize, byte: u8
        ) {
            for mut good in [public(&[1; 32], &[2; 32]), signature(&[1; 32], &[0x80; 32])] {
                if let Some(one) = good.get_mut(at) {
                    *one = byte;
                }
                good.truncate(cut);
                let _ = (read_public(&good), read_signature(&good));
            }
        }
    }
}
