//! Where requests may lead: a redirect cannot reach into the user's own machine or network, unless
//! the hub itself is there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The part of the address space that an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Realm {
    /// Anybody on the internet.
    Public,
    /// This machine.
    Loopback,
    /// The network that this machine is in, a provider's included.
    Private,
    /// Neighbours on one cable; the services that tell a cloud machine its secrets.
    LinkLocal,
    /// No single machine: multicast, documentation, benchmarks, reserved.
    Special,
}

impl Realm {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // An address of 0.0.0.0/8 means this machine to the system.
            [0 | 127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            [169, 254, ..] => Self::LinkLocal,
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Self::Special,
            [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => Self::Special,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let inner = |high: u16, low: u16| {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Loopback,
            // Forms that carry an IPv4 address: mapped, compatible, NAT64, 6to4.
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => inner(high, low),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
            [0x2002, high, low, ..] => inner(high, low),
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Self::Private,
            // All that is given out is in 2000::/3, without Teredo and documentation.
            [0x2001, 0 | 0xdb8, ..] => Self::Special,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Special,
        }
    }
}

/// The refusal of an address.
#[derive(Debug)]
pub(super) struct Refused {
    host: String,
    address: IpAddr,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        let what = match Realm::of(*address) {
            Realm::Public => "an address",
            Realm::Loopback => "this machine",
            Realm::Private => "a private network",
            Realm::LinkLocal => "a link-local address",
            Realm::Special => "a reserved address",
        };
        write!(
            f,
            "the hub redirects to {host} ({address}), {what}; refusing to follow"
        )
    }
}

impl std::error::Error for Refused {}

/// Resolves names, and fails where a redirect leads to a realm that the endpoint is not in. The
/// connection is made to the very addresses that were checked, so a name that changes its address
/// meanwhile gains nothing.
#[derive(Debug)]
pub(super) struct Reach<R = DefaultResolver> {
    resolver: R,
    /// The endpoint's host, and the realms of its addresses once it was resolved.
    host: String,
    realms: Mutex<Vec<Realm>>,
}

impl<R> Reach<R> {
    pub(super) fn new(endpoint: &Uri, resolver: R) -> Self {
        Self {
            resolver,
            host: host(endpoint),
            realms: Mutex::default(),
        }
    }

    /// Fails if one of the addresses is out of reach, and learns those of the endpoint.
    fn check(&self, host: &str, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Refused> {
        let mut realms = self.realms.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            let realm = Realm::of(address);
            if host == self.host {
                // A handful of different ones, however often the name is resolved.
                if !realms.contains(&realm) {
                    realms.push(realm);
                }
            } else if realm != Realm::Public && !realms.contains(&realm) {
                let host = host.to_owned();
                return Err(Refused { host, address });
            }
        }
        Ok(())
    }
}

fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().to_ascii_lowercase()
}

impl<R: Resolver> Resolver for Reach<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        let host = host(uri);
        // The user's own proxy, which resolves names itself, may be anywhere; another port of its
        // machine is not the proxy.
        let usual = match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        };
        let port = uri.port_u16().or(usual);
        let is_proxy = |proxy: &ureq::Proxy| {
            let is_port = port.is_none_or(|port| port == proxy.port());
            is_port && proxy.host().eq_ignore_ascii_case(&host)
        };
        if !config.proxy().is_some_and(is_proxy) {
            let addresses = found.iter().map(|address| address.ip());
            let checked = self.check(&host, addresses);
            checked.map_err(|refused| ureq::Error::Other(Box::new(refused)))?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use ureq::unversioned::transport::{ConnectionDetails, Connector};

    use super::*;

    /// Names with their addresses; nothing is looked up anywhere.
    const NAMES: [(&str, &str); 8] = [
        ("hub.example", "1.1.1.1"),
        ("cdn.example", "2606:4700::1111"),
        ("inside.example", "10.0.0.7"),
        ("inside-too.example", "fd00::7"),
        ("self.example", "127.0.0.1"),
        ("secrets.example", "169.254.169.254"),
        ("mapped.example", "::ffff:10.0.0.7"),
        ("many.example", "224.0.0.1"),
    ];

    #[derive(Debug)]
    struct Stub;

    impl Resolver for Stub {
        fn resolve(
            &self,
            uri: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let host = host(uri);
            let known = NAMES.iter().find(|(name, _)| *name == host);
            let literal = host.trim_matches(['[', ']']);
            let address = known.map_or(literal, |(_, address)| address);
            let mut found = self.empty();
            found.push(SocketAddr::new(address.parse().unwrap(), 80));
            Ok(found)
        }
    }

    /// Records where connections would lead; makes none.
    #[derive(Clone, Debug, Default)]
    struct Wires(Arc<Mutex<Vec<IpAddr>>>);

    impl Connector for Wires {
        type Out = ();

        fn connect(
            &self,
            details: &ConnectionDetails<'_>,
            _: Option<()>,
        ) -> Result<Option<Self::Out>, ureq::Error> {
            let mut led = self.0.lock().unwrap();
            led.extend(details.addrs.iter().map(|address| address.ip()));
            Err(ureq::Error::ConnectionFailed)
        }
    }

    /// Whether a client of `endpoint` would connect to `target`.
    fn reaches(endpoint: &str, target: &str) -> bool {
        let wires = Wires::default();
        let endpoint: Uri = format!("http://{endpoint}/").parse().unwrap();
        let config = ureq::Agent::config_builder().proxy(None).build();
        let reach = Reach::new(&endpoint, Stub);
        let agent = ureq::Agent::with_parts(config, wires.clone(), reach);
        let _ = agent.get(&endpoint).call().unwrap_err();
        assert_eq!(
            wires.0.lock().unwrap().len(),
            1,
            "the endpoint is always in reach"
        );
        let refused = agent.get(format!("http://{target}/x")).call().unwrap_err();
        let is_refused = matches!(&refused, ureq::Error::Other(cause) if cause.is::<Refused>());
        let led = wires.0.lock().unwrap().len() == 2;
        assert_ne!(is_refused, led, "{target}: {refused}");
        led
    }

    #[test]
    fn a_redirect_stays_out_of_realms_that_the_endpoint_is_not_in() {
        let cases = [
            ("hub.example", "cdn.example", true),
            ("hub.example", "8.8.8.8", true),
            ("hub.example", "HUB.example", true),
            ("hub.example", "inside.example", false),
            ("hub.example", "inside-too.example", false),
            ("hub.example", "self.example", false),
            ("hub.example", "secrets.example", false),
            ("hub.example", "mapped.example", false),
            ("hub.example", "many.example", false),
            ("hub.example", "127.0.0.1", false),
            ("hub.example", "[::1]", false),
            ("hub.example", "[fe80::1]", false),
            ("inside.example", "inside-too.example", true),
            ("inside.example", "cdn.example", true),
            ("inside.example", "secrets.example", false),
            ("inside.example", "self.example", false),
            ("self.example", "127.0.0.1", true),
            ("self.example", "inside.example", false),
        ];
        for (endpoint, target, expected) in cases {
            assert_eq!(reaches(endpoint, target), expected, "{endpoint} {target}");
        }
    }

    #[test]
    fn another_port_of_the_proxys_machine_is_not_the_proxy() {
        let wires = Wires::default();
        let endpoint: Uri = "http://hub.example/".parse().unwrap();
        let proxy = ureq::Proxy::builder(ureq::ProxyProtocol::Http)
            .host("self.example")
            .port(3128)
            .no_proxy("self.example")
            .build();
        let config = ureq::Agent::config_builder().proxy(Some(proxy.unwrap()));
        let reach = Reach::new(&endpoint, Stub);
        let agent = ureq::Agent::with_parts(config.build(), wires.clone(), reach);
        let refused = agent.get("http://self.example:9200/x").call().unwrap_err();
        assert!(
            matches!(&refused, ureq::Error::Other(cause) if cause.is::<Refused>()),
            "{refused}"
        );
        assert!(wires.0.lock().unwrap().is_empty());
    }

    #[test]
    fn every_block_of_addresses_has_its_realm() {
        use Realm::{LinkLocal, Loopback, Private, Public, Special};
        let cases: &[(Realm, &[&str])] = &[
            (
                Public,
                &[
                    "1.1.1.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                ],
            ),
            (
                Public,
                &[
                    "172.15.0.1",
                    "172.32.0.1",
                    "192.167.1.1",
                    "169.253.1.1",
                    "223.255.255.255",
                ],
            ),
            (
                Public,
                &[
                    "2a00::1",
                    "2002:808:808::1",
                    "64:ff9b::8.8.8.8",
                    "::ffff:8.8.8.8",
                ],
            ),
            (
                Loopback,
                &[
                    "127.0.0.1",
                    "127.255.0.9",
                    "0.0.0.0",
                    "0.1.2.3",
                    "::1",
                    "::",
                ],
            ),
            (
                Loopback,
                &[
                    "::ffff:127.0.0.1",
                    "64:ff9b::127.0.0.1",
                    "2002:7f00:1::1",
                    "::127.0.0.1",
                ],
            ),
            (
                Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                ],
            ),
            (
                Private,
                &[
                    "fc00::1",
                    "fdff::1",
                    "fec0::1",
                    "::ffff:192.168.0.1",
                    "64:ff9b:1::1",
                ],
            ),
            (
                LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.0.1",
                ],
            ),
            (
                Special,
                &[
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "192.0.2.1",
                    "198.18.0.1",
                ],
            ),
            (
                Special,
                &[
                    "203.0.113.9",
                    "198.51.100.1",
                    "ff02::1",
                    "2001:db8::1",
                    "2001::1",
                    "100::1",
                ],
            ),
        ];
        for (realm, addresses) in cases {
            for address in *addresses {
                assert_eq!(Realm::of(address.parse().unwrap()), *realm, "{address}");
            }
        }
    }
}
