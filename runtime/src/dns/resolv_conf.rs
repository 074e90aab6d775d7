//! The host's resolvers, read from its `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::PORT;

/// What a resolv.conf says. What is no line of one is passed over, as the C library does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines; a scope (`%eth0`) is left out with its address.
    pub nameservers: Vec<IpAddr>,
    /// The last `search` or `domain` line.
    pub searches: Vec<String>,
    /// All `options` lines.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text of a resolv.conf.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let mut values = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => {
                    conf.nameservers.extend(values.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("search") => conf.searches = values.collect(),
                Some("domain") => conf.searches = values.take(1).collect(),
                Some("options") => conf.options.extend(values),
                Some(_) | None => {}
            }
        }
        conf
    }

    /// Where the nameservers are asked; on the loopback if none is named, as Go has it.
    #[must_use]
    pub fn servers(&self) -> Vec<SocketAddr> {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let named = self.nameservers.as_slice();
        let asked = if named.is_empty() { &loopback } else { named };
        asked.iter().map(|address| SocketAddr::new(*address, PORT)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter_are_found() {
        let text = "# comment\nnameserver 127.0.0.53 # stub\n nameserver fe80::1%eth0\nnameserver 2001:db8::1\n\
                    domain old\nsearch a.example b.example\noptions edns0 ndots:2\nsortlist x\nnameserver\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            conf.nameservers,
            ["127.0.0.53".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
        );
        assert_eq!(conf.servers()[1], "[2001:db8::1]:53".parse().unwrap());
        assert_eq!(conf.searches, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["edns0", "ndots:2"]);
    }

    #[test]
    fn without_a_nameserver_the_loopback_is_asked() {
        let loopback = ["127.0.0.1:53", "[::1]:53"].map(|server| server.parse().unwrap());
        assert_eq!(ResolvConf::parse("nameserver\nsearch example\n").servers(), loopback);
    }
}
