//! What stands between the box and the cloud, looked at from the box: cable, address, names, time, the two ports.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::net::{TcpStream, lookup_host};

use crate::clock::Clock;
use crate::config::CloudConfig;

/// Who does not answer within this time is as good as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the cloud is.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// Host and port of the broker.
    broker: (String, u16),
    /// Host and port of the API.
    api: (String, u16),
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checks {
    /// Interfaces other than the loopback, and whether there is a signal on each.
    pub(super) links: Vec<(String, bool)>,
    /// There is a way out of the local network.
    pub(super) route: bool,
    /// The name of the cloud has an address.
    pub(super) names: Result<(), String>,
    /// The clock is about right; `None`: it is not known.
    pub(super) clock: Option<SignedDuration>,
    /// The two ports of the cloud can be reached.
    pub(super) api: Result<(), String>,
    pub(super) broker: Result<(), String>,
}

impl Target {
    pub(super) fn of(cloud: &CloudConfig) -> Self {
        let (host, port) = cloud.host_port().unwrap_or(("", 0));
        let rest = cloud.api.strip_prefix("https://").unwrap_or(&cloud.api);
        let authority = rest.split('/').next().unwrap_or_default();
        let api = authority
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)));
        Self { broker: (host.to_owned(), port), api: api.unwrap_or((authority.to_owned(), 443)) }
    }
}

pub(super) async fn look(target: &Target, clock: &Clock) -> Checks {
    let (names, api, broker) = tokio::join!(resolve(&target.api), reach(&target.api), reach(&target.broker));
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    Checks {
        links: links(Path::new("/sys/class/net")),
        route: has_default_route(&routes, &routes6),
        names,
        clock: clock.is_known().then(|| clock.off()),
        api,
        broker,
    }
}

async fn resolve((host, port): &(String, u16)) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, lookup_host((host.as_str(), *port))).await {
        Err(_) => Err("no answer".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(mut found)) => found.next().map(|_| ()).ok_or_else(|| "no address".to_owned()),
    }
}

async fn reach((host, port): &(String, u16)) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), *port))).await {
        Err(_) => Err(format!("{host}:{port}: no answer")),
        Ok(Err(error)) => Err(format!("{host}:{port}: {error}")),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Those that the kernel says are up have a signal; a bridge or tunnel that does not know counts as up when it is there.
fn links(folder: &Path) -> Vec<(String, bool)> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut links: Vec<(String, bool)> = all
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name != "lo")?;
            let state = fs::read_to_string(entry.path().join("operstate")).unwrap_or_default();
            Some((name, matches!(state.trim(), "up" | "unknown")))
        })
        .collect();
    links.sort();
    links
}

/// Whether the kernel's tables have a route to everywhere: destination 0 (`/proc/net/route`), or `::/0` that is not
/// the loopback's (`/proc/net/ipv6_route`).
fn has_default_route(routes: &str, routes6: &str) -> bool {
    let v4 = routes.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    });
    let v6 = routes6.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let everywhere = fields.first().is_some_and(|to| to.bytes().all(|byte| byte == b'0'));
        everywhere && fields.get(1) == Some(&"00") && fields.last().is_some_and(|name| *name != "lo")
    });
    v4 || v6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(api: &str) -> CloudConfig {
        CloudConfig { mqtt: "mq.example:8883".into(), api: api.into(), ca: "ca.pem".into() }
    }

    #[test]
    fn the_ports_of_the_cloud_are_read_from_the_configuration() {
        for (api, host, port) in [
            ("https://c.example:8443", "c.example", 8_443),
            ("https://c.example/base", "c.example", 443),
            ("https://[2001:db8::1]:8443", "2001:db8::1", 8_443),
        ] {
            let target = Target::of(&cloud(api));
            assert_eq!(target.api, (host.to_owned(), port));
            assert_eq!(target.broker, ("mq.example".to_owned(), 8_883));
        }
    }

    #[test]
    fn a_way_out_is_a_route_to_everywhere() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let out = format!("{head}eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n");
        let local = format!("{head}eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n");
        let none6 = "00000000000000000000000000000000 00 0 0 0 ffffffff 1 0 00200200 lo\n";
        let out6 = "00000000000000000000000000000000 00 0 0 0 400 1 0 00000003 eth0\n";
        assert!(has_default_route(&out, ""));
        assert!(!has_default_route(&local, none6) && !has_default_route("", "nonsense"));
        assert!(has_default_route(&local, out6));
    }

    #[test]
    fn a_cable_without_a_signal_shows() {
        let dir = tempfile::tempdir().unwrap();
        for (name, state) in [("eth0", "up\n"), ("eth1", "down\n"), ("lo", "unknown\n"), ("wg0", "unknown\n")]
        {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("operstate"), state).unwrap();
        }
        let found = links(dir.path());
        assert_eq!(found, [("eth0".into(), true), ("eth1".into(), false), ("wg0".into(), true)]);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_named() {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(reach(&("127.0.0.1".into(), port)).await, Ok(()));
        drop(socket);
        let error = reach(&("127.0.0.1".into(), port)).await.unwrap_err();
        assert!(error.contains(&port.to_string()), "{error}");
    }
}
