//! Where a callback may go to. The address comes from outside, so it must not reach inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Why an address is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an address of the web.
    #[error("a callback goes to an http: or https: address without user name or password")]
    NotHttp,
    /// An address inside this network or machine.
    #[error("the callback address is a private or local one; `callbacks.allow_private` permits that")]
    Private,
}

/// Checks the text of an address; a host name is checked again when it is resolved.
///
/// # Errors
/// [`TargetError`].
pub fn check_target(url: &str, allow_private: bool) -> Result<Url, TargetError> {
    let url = Url::parse(url).map_err(|_| TargetError::NotHttp)?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err(TargetError::NotHttp);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(TargetError::NotHttp)?;
    if allow_private {
        return Ok(url);
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let local_name = host == "localhost" || host.ends_with(".localhost");
    let local_address = host.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip));
    if local_name || local_address { Err(TargetError::Private) } else { Ok(url) }
}

/// Says whether an address belongs to the public internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    !(a == 0
        || a >= 240
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || shared
        || benchmark
        || protocol)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(inner) = ip.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let s = ip.segments();
    // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address that counts.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(embedded(s[6], s[7]));
    }
    if s[0] == 0x2002 {
        return is_public_v4(embedded(s[1], s[2]));
    }
    // Only 2000::/3 is given out as global unicast (RFC 4291 §2.4).
    let documentation = s[0] == 0x2001 && s[1] == 0xdb8;
    s[0] & 0xe000 == 0x2000 && !documentation
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_inside_is_refused_however_it_is_written() {
        for inside in [
            "http://127.0.0.1/",
            "http://localhost:8080/x",
            "http://a.localhost/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
        ] {
            assert_eq!(check_target(inside, false), Err(TargetError::Private), "{inside}");
            assert!(check_target(inside, true).is_ok(), "{inside}");
        }
    }

    #[test]
    fn what_is_not_the_web_is_refused_always() {
        for bad in ["ftp://example.org/", "file:///etc/passwd", "http://user:secret@example.org/", "x", ""] {
            assert_eq!(check_target(bad, true), Err(TargetError::NotHttp), "{bad}");
        }
    }

    #[test]
    fn a_public_address_is_accepted() {
        for good in ["https://crm.example.org/hook?x=1", "http://93.184.216.34/", "http://[2606:2800::1]/"] {
            assert!(check_target(good, false).is_ok(), "{good}");
        }
    }
}
