//! Encryption around the packets of one call, with the keys that the signalling agreed on.

use trunkline_rtp::srtp::{SrtpKey, SrtpProfile, SrtpReceiver, SrtpSender};
use trunkline_sip::sdp::{CryptoSuite, SecureParams};

/// Both directions of one call.
#[derive(Debug)]
pub(crate) struct Wrap {
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

impl Wrap {
    pub(crate) fn new(agreed: &SecureParams) -> Self {
        let profile = match agreed.suite {
            CryptoSuite::AesCm128Sha1Tag80 => SrtpProfile::Sha1Tag80,
            CryptoSuite::AesCm128Sha1Tag32 => SrtpProfile::Sha1Tag32,
        };
        Self {
            sender: SrtpSender::new(profile, &SrtpKey::new(agreed.local.0)),
            receiver: SrtpReceiver::new(profile, &SrtpKey::new(agreed.remote.0)),
        }
    }

    /// Opens a packet in place; `None` for one that was not made with the key.
    pub(crate) fn open_rtp(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.receiver.open_rtp(packet).ok()
    }

    /// As [`Self::open_rtp`], for RTCP.
    pub(crate) fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.receiver.open_rtcp(packet).ok()
    }

    /// Protects the packet in the first `len` octets and returns its new length.
    pub(crate) fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        self.sender.protect_rtp(buffer, len).ok()
    }

    /// As [`Self::protect_rtp`], for RTCP.
    pub(crate) fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        self.sender.protect_rtcp(buffer, len).ok()
    }

    /// Returns how many packets were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.receiver.refused()
    }
}
