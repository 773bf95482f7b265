//! Encrypted RTP and RTCP: AES in counter mode with HMAC-SHA1 (RFC 3711), keys as SDP carries them (RFC 4568).
//!
//! ```text
//! RTP   header (clear) | payload (encrypted)            | tag (10 or 4 octets)
//! RTCP  first 8 octets (clear) | rest (encrypted) | E | index (31 bits) | tag (10 octets)
//! ```
//!
//! One [`SrtpSender`] and one [`SrtpReceiver`] wrap the packets of one call; the roll-over counter of the 16-bit
//! number, and the window against replays, are kept for each source that is heard.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use ring::hmac;

/// What a `crypto` line of SDP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `AES_CM_128_HMAC_SHA1_80`: a tag of 10 octets.
    Sha1Tag80,
    /// `AES_CM_128_HMAC_SHA1_32`: a tag of 4 octets on RTP, of 10 on RTCP.
    Sha1Tag32,
}

impl SrtpProfile {
    /// Returns the name in SDP (RFC 4568 §6.2).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::Sha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    fn tag_len(self) -> usize {
        match self {
            Self::Sha1Tag80 => 10,
            Self::Sha1Tag32 => 4,
        }
    }
}

/// A master key and salt, as they stand behind `inline:` in base64. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    key: [u8; 16],
    salt: [u8; 14],
}

impl SrtpKey {
    /// Takes 16 octets of key followed by 14 of salt; they must be random.
    #[must_use]
    pub fn new(key_and_salt: [u8; 30]) -> Self {
        let (mut key, mut salt) = ([0; 16], [0; 14]);
        key.copy_from_slice(&key_and_salt[..16]);
        salt.copy_from_slice(&key_and_salt[16..]);
        Self { key, salt }
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKey(…)")
    }
}

/// Why a packet was not taken, or could not be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or no RTP or RTCP.
    #[error("not a protected packet")]
    Malformed,
    /// It was not made with this key, or changed on its way.
    #[error("the packet's tag does not fit")]
    Forged,
    /// It came before, or is older than the window.
    #[error("the packet came before or is too old")]
    Replayed,
    /// The buffer has no room for the tag.
    #[error("no room for the tag")]
    NoRoom,
    /// More sources than a call has.
    #[error("too many sources on one stream")]
    TooManySources,
    /// The key has protected as much as it may (RFC 3711 §9.2).
    #[error("the key is used up")]
    UsedUp,
}

/// The longest tag, with SRTCP's index: a packet needs so much room behind it.
pub const SRTP_ROOM: usize = 14;

/// Sources that one call is heard from at most; a transfer or a bridge in the network changes it now and then.
const MAX_SOURCES: usize = 8;
const RTCP_TAG: usize = 10;
/// Packets that may come late.
const WINDOW: u64 = 64;

/// The keys of one direction, derived from the master key (RFC 3711 §4.3).
#[derive(Clone)]
struct Keys {
    cipher: Aes128,
    auth: hmac::Key,
    salt: [u8; 14],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// `first_label` is 0 for RTP and 3 for RTCP.
    fn derive(master: &SrtpKey, first_label: u8) -> Self {
        let cipher = Aes128::new(&master.key.into());
        let derive = |label: u8, out: &mut [u8]| {
            let mut counter = [0; 16];
            counter[..14].copy_from_slice(&master.salt);
            counter[7] ^= label;
            out.fill(0);
            add_key_stream(&cipher, counter, out);
        };
        let (mut key, mut auth, mut salt) = ([0; 16], [0; 20], [0; 14]);
        derive(first_label, &mut key);
        derive(first_label + 1, &mut auth);
        derive(first_label + 2, &mut salt);
        Self {
            cipher: Aes128::new(&key.into()),
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
            salt,
        }
    }

    /// Encrypts or decrypts in place (§4.1.1).
    fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        for (at, byte) in ssrc.to_be_bytes().into_iter().enumerate() {
            counter[4 + at] ^= byte;
        }
        for (at, byte) in index.to_be_bytes()[2..].iter().enumerate() {
            counter[8 + at] ^= byte;
        }
        add_key_stream(&self.cipher, counter, data);
    }

    fn tag(&self, authenticated: &[u8], more: &[u8]) -> [u8; 20] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(authenticated);
        context.update(more);
        let mut tag = [0; 20];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// Adds AES in counter mode to `data`; the low 16 bits of `counter` count blocks.
fn add_key_stream(cipher: &Aes128, counter: [u8; 16], data: &mut [u8]) {
    for (at, chunk) in data.chunks_mut(16).enumerate() {
        let mut block = counter;
        block[14..].copy_from_slice(&(at as u16).to_be_bytes());
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        for (byte, key) in chunk.iter_mut().zip(block) {
            *byte ^= key;
        }
    }
}

/// Protects what we send.
#[derive(Clone, Debug)]
pub struct SrtpSender {
    profile: SrtpProfile,
    rtp: Keys,
    rtcp: Keys,
    /// Number of the last packet and how often it rolled over.
    last: Option<(u16, u32)>,
    rtcp_index: u32,
}

impl SrtpSender {
    /// Begins with our own key.
    #[must_use]
    pub fn new(profile: SrtpProfile, key: &SrtpKey) -> Self {
        let (rtp, rtcp) = (Keys::derive(key, 0), Keys::derive(key, 3));
        Self { profile, rtp, rtcp, last: None, rtcp_index: 0 }
    }

    /// Protects the RTP packet in the first `len` octets of `buffer` and returns its new length.
    ///
    /// Packets must come in the order of their numbers, as [`crate::RtpSender`] makes them.
    ///
    /// # Errors
    /// When it is no packet, there is no room for the tag, or the key is used up. The buffer is unchanged then.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let (seq, ssrc, header) = rtp_fields(buffer.get(..len).ok_or(SrtpError::NoRoom)?)?;
        let end = len + self.profile.tag_len();
        if buffer.len() < end {
            return Err(SrtpError::NoRoom);
        }
        let roc = match self.last {
            Some((last, roc)) if seq < last && last - seq > 0x8000 => {
                roc.checked_add(1).ok_or(SrtpError::UsedUp)?
            }
            Some((_, roc)) => roc,
            None => 0,
        };
        self.last = Some((seq, roc));
        self.rtp.apply(ssrc, u64::from(roc) << 16 | u64::from(seq), &mut buffer[header..len]);
        let tag = self.rtp.tag(&buffer[..len], &roc.to_be_bytes());
        buffer[len..end].copy_from_slice(&tag[..end - len]);
        Ok(end)
    }

    /// Protects the RTCP packet in the first `len` octets of `buffer` and returns its new length.
    ///
    /// # Errors
    /// As [`Self::protect_rtp`].
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let ssrc = rtcp_ssrc(buffer.get(..len).ok_or(SrtpError::NoRoom)?)?;
        let end = len + 4 + RTCP_TAG;
        if buffer.len() < end {
            return Err(SrtpError::NoRoom);
        }
        if self.rtcp_index >= 1 << 31 {
            return Err(SrtpError::UsedUp);
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        self.rtcp.apply(ssrc, u64::from(index), &mut buffer[8..len]);
        buffer[len..len + 4].copy_from_slice(&(index | 1 << 31).to_be_bytes());
        let tag = self.rtcp.tag(&buffer[..len + 4], &[]);
        buffer[len + 4..end].copy_from_slice(&tag[..RTCP_TAG]);
        Ok(end)
    }
}

/// The newest index of a source and which of the 64 before it came.
#[derive(Clone, Copy, Debug)]
struct Window {
    ssrc: u32,
    newest: u64,
    seen: u64,
}

impl Window {
    fn takes(&self, index: u64) -> bool {
        match self.newest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn note(&mut self, index: u64) {
        match index.checked_sub(self.newest) {
            Some(ahead) => {
                self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
                self.newest = index;
            }
            None => self.seen |= 1 << (self.newest - index),
        }
    }
}

/// Opens what comes, and counts what it refuses.
#[derive(Clone, Debug)]
pub struct SrtpReceiver {
    profile: SrtpProfile,
    rtp: Keys,
    rtcp: Keys,
    sources: Vec<Window>,
    rtcp_sources: Vec<Window>,
    refused: u64,
}

impl SrtpReceiver {
    /// Begins with the other side's key.
    #[must_use]
    pub fn new(profile: SrtpProfile, key: &SrtpKey) -> Self {
        Self {
            profile,
            rtp: Keys::derive(key, 0),
            rtcp: Keys::derive(key, 3),
            sources: Vec::new(),
            rtcp_sources: Vec::new(),
            refused: 0,
        }
    }

    /// Opens the RTP packet in `packet` in place and returns its length without the tag.
    ///
    /// # Errors
    /// When it is not one, forged, or came before; what is in the buffer then must not be used.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let opened = self.try_open_rtp(packet);
        self.refused += u64::from(opened.is_err());
        opened
    }

    fn try_open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.profile.tag_len()).ok_or(SrtpError::Malformed)?;
        let (seq, ssrc, header) = rtp_fields(&packet[..len])?;
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let index = match known {
            Some(at) => nearest(self.sources[at].newest, seq),
            None if self.sources.len() >= MAX_SOURCES => return Err(SrtpError::TooManySources),
            None => u64::from(seq),
        };
        if known.is_some_and(|at| !self.sources[at].takes(index)) {
            return Err(SrtpError::Replayed);
        }
        let roc = (index >> 16) as u32;
        let tag = self.rtp.tag(&packet[..len], &roc.to_be_bytes());
        if !same(&tag[..self.profile.tag_len()], &packet[len..]) {
            return Err(SrtpError::Forged);
        }
        match known {
            Some(at) => self.sources[at].note(index),
            None => self.sources.push(Window { ssrc, newest: index, seen: 1 }),
        }
        self.rtp.apply(ssrc, index, &mut packet[header..len]);
        Ok(len)
    }

    /// Opens the RTCP packet in `packet` in place and returns its length without index and tag.
    ///
    /// # Errors
    /// As [`Self::open_rtp`].
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let opened = self.try_open_rtcp(packet);
        self.refused += u64::from(opened.is_err());
        opened
    }

    fn try_open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let signed = packet.len().checked_sub(RTCP_TAG).ok_or(SrtpError::Malformed)?;
        let len = signed.checked_sub(4).ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_ssrc(&packet[..len])?;
        let mut word = [0; 4];
        word.copy_from_slice(&packet[len..signed]);
        let word = u32::from_be_bytes(word);
        let (encrypted, index) = (word >> 31 == 1, u64::from(word & 0x7fff_ffff));
        let known = self.rtcp_sources.iter().position(|source| source.ssrc == ssrc);
        if known.is_some_and(|at| !self.rtcp_sources[at].takes(index)) {
            return Err(SrtpError::Replayed);
        }
        if known.is_none() && self.rtcp_sources.len() >= MAX_SOURCES {
            return Err(SrtpError::TooManySources);
        }
        let tag = self.rtcp.tag(&packet[..signed], &[]);
        if !same(&tag[..RTCP_TAG], &packet[signed..]) {
            return Err(SrtpError::Forged);
        }
        match known {
            Some(at) => self.rtcp_sources[at].note(index),
            None => self.rtcp_sources.push(Window { ssrc, newest: index, seen: 1 }),
        }
        if encrypted {
            self.rtcp.apply(ssrc, index, &mut packet[8..len]);
        }
        Ok(len)
    }

    /// Returns how many packets were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Returns the index that a 16-bit number most likely means, near the newest one (RFC 3711 §3.3.1).
fn nearest(newest: u64, seq: u16) -> u64 {
    let guess = newest & !0xffff | u64::from(seq);
    let half = 0x8000;
    if guess + half < newest {
        guess + 0x1_0000
    } else if guess > newest + half && guess >= 0x1_0000 {
        guess - 0x1_0000
    } else {
        guess
    }
}

/// Returns number, source and length of the header, which stays in the clear.
fn rtp_fields(packet: &[u8]) -> Result<(u16, u32, usize), SrtpError> {
    // Padding is encrypted with the payload, so only the header can be looked at here.
    let fixed = packet.get(..12).ok_or(SrtpError::Malformed)?;
    if fixed[0] >> 6 != 2 {
        return Err(SrtpError::Malformed);
    }
    let mut header = 12 + 4 * usize::from(fixed[0] & 0x0f);
    if fixed[0] & 0x10 != 0 {
        let words = packet.get(header + 2..header + 4).ok_or(SrtpError::Malformed)?;
        header += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    if header > packet.len() {
        return Err(SrtpError::Malformed);
    }
    let seq = u16::from_be_bytes([fixed[2], fixed[3]]);
    Ok((seq, u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]), header))
}

fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    let head = packet.get(..8).ok_or(SrtpError::Malformed)?;
    if head[0] >> 6 != 2 {
        return Err(SrtpError::Malformed);
    }
    Ok(u32::from_be_bytes([head[4], head[5], head[6], head[7]]))
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests;
