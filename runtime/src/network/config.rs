//! What the pod network is like: ranges, bridge, mode. Values of these types cannot be wrong: they are made
//! by parsing alone, whether they come from a flag, from the configuration file or from a task's input.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use hull_shim::layout::Layout;
use serde::{Deserialize, Serialize};

use super::Error;

/// The pod network of one hull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Fields", try_from = "Fields")]
pub struct Config {
    bridge: BridgeName,
    pod_cidr: Cidr,
    service_cidr: Cidr,
    mode: Mode,
}

/// The same as it is written; every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<BridgeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_cidr: Option<Cidr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_cidr: Option<Cidr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
}

/// The flags of `hull apply` that speak of the network; each overrides the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--bridge`.
    pub bridge: Option<BridgeName>,
    /// `--pod-cidr`.
    pub pod_cidr: Option<Cidr>,
    /// `--service-cidr`.
    pub service_cidr: Option<Cidr>,
    /// `--network`.
    pub mode: Option<Mode>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: BridgeName("hull0".to_owned()),
            pod_cidr: Cidr { network: Ipv4Addr::new(10, 87, 0, 0), prefix: 16 },
            service_cidr: Cidr { network: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 },
            mode: Mode::Bridge,
        }
    }
}

impl TryFrom<Fields> for Config {
    type Error = ConfigError;

    fn try_from(fields: Fields) -> Result<Self, ConfigError> {
        let default = Self::default();
        let config = Self {
            bridge: fields.bridge.unwrap_or(default.bridge),
            pod_cidr: fields.pod_cidr.unwrap_or(default.pod_cidr),
            service_cidr: fields.service_cidr.unwrap_or(default.service_cidr),
            mode: fields.mode.unwrap_or(default.mode),
        };
        if config.pod_cidr.overlaps(config.service_cidr) {
            return Err(ConfigError::Overlap { pods: config.pod_cidr, services: config.service_cidr });
        }
        if config.service_cidr.prefix > 28 {
            return Err(ConfigError::NoRoomForDns(config.service_cidr));
        }
        Ok(config)
    }
}

impl From<Config> for Fields {
    fn from(config: Config) -> Self {
        Self {
            bridge: Some(config.bridge),
            pod_cidr: Some(config.pod_cidr),
            service_cidr: Some(config.service_cidr),
            mode: Some(config.mode),
        }
    }
}

impl Config {
    /// The network of this hull: the defaults, under the configuration file where there is one
    /// (`/etc/hull/network.json`, or `<root>/etc/network.json`), under the flags.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or the ranges do not go together.
    pub fn load(layout: &Layout, flags: Flags) -> Result<Self, Error> {
        let path = layout
            .root()
            .map_or_else(|| "/etc/hull/network.json".into(), |root| root.join("etc/network.json"));
        let written = Self::written(path)?;
        let fields = Fields {
            bridge: flags.bridge.or(written.bridge),
            pod_cidr: flags.pod_cidr.or(written.pod_cidr),
            service_cidr: flags.service_cidr.or(written.service_cidr),
            mode: flags.mode.or(written.mode),
        };
        fields.try_into().map_err(Error::Config)
    }

    fn written(path: PathBuf) -> Result<Fields, Error> {
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| Error::ConfigFile { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fields::default()),
            Err(source) => Err(Error::File { operation: "read", path, source }),
        }
    }

    /// The bridge of the pods.
    #[must_use]
    pub fn bridge(&self) -> &BridgeName {
        &self.bridge
    }

    /// The range that pods' addresses come from.
    #[must_use]
    pub fn pod_cidr(&self) -> Cidr {
        self.pod_cidr
    }

    /// The range that Services' addresses come from.
    #[must_use]
    pub fn service_cidr(&self) -> Cidr {
        self.service_cidr
    }

    /// How pods are connected.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The host's address on the bridge: the first of the pod range.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr.nth(1)
    }

    /// Where every pod's resolver listens: the tenth address of the service range, as kubeadm has it.
    #[must_use]
    pub fn dns(&self) -> Ipv4Addr {
        self.service_cidr.nth(10)
    }
}

/// How pods are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By a veth pair to a bridge of the host.
    Bridge,
    /// Not at all: a pod sees its own address and loopback, nothing else.
    Loopback,
}

impl FromStr for Mode {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "bridge" => Ok(Self::Bridge),
            "loopback" => Ok(Self::Loopback),
            _ => Err(ConfigError::Mode(text.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Bridge => "bridge",
            Self::Loopback => "loopback",
        })
    }
}

/// A name that the kernel takes for a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BridgeName(String);

impl BridgeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<BridgeName> for String {
    fn from(name: BridgeName) -> Self {
        name.0
    }
}

impl TryFrom<String> for BridgeName {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
        // Narrower than dev_valid_name() of the kernel: `%` is a pattern there, and nobody needs the rest.
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if fits && plain { Ok(Self(name)) } else { Err(ConfigError::BridgeName(name)) }
    }
}

impl FromStr for BridgeName {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        text.to_owned().try_into()
    }
}

/// A range of IPv4 addresses, `10.87.0.0/16`, with room for a network, a gateway, a broadcast address and
/// pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// The range's first address, which names it.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Length of the prefix, 8 to 29.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask with [`Cidr::prefix`] ones.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(!(self.size() - 1))
    }

    /// The last address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        self.nth(self.size() - 1)
    }

    /// How many addresses there are, counting those that nobody gets.
    #[must_use]
    pub fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    /// The address that many after the first, going round at the end.
    #[must_use]
    pub fn nth(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | (offset % self.size()))
    }

    /// Whether an address lies in the range.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.network.to_bits()
    }

    /// Whether two ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl FromStr for Cidr {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let fail = |why| ConfigError::Cidr { text: text.to_owned(), why };
        let (network, prefix) = text.split_once('/').ok_or_else(|| fail("it has no /PREFIX"))?;
        if network.contains(':') {
            return Err(fail("IPv6 is not supported"));
        }
        let network: Ipv4Addr = network.parse().map_err(|_| fail("it is no IPv4 address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| fail("its prefix is no number"))?;
        if !(8..=29).contains(&prefix) {
            return Err(fail("its prefix is not from 8 to 29"));
        }
        let cidr = Self { network, prefix };
        if network.to_bits() & !cidr.mask().to_bits() != 0 {
            return Err(fail("bits are set after its prefix"));
        }
        Ok(cidr)
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a range that can be used.
    #[error("invalid address range {text:?}: {why}")]
    Cidr {
        /// As written.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not a name for a link.
    #[error("invalid bridge name {0:?}: up to 15 letters, digits, '-', '_' and '.' are allowed")]
    BridgeName(String),
    /// Not a mode.
    #[error("invalid network mode {0:?}: it is bridge or loopback")]
    Mode(String),
    /// The two ranges share addresses.
    #[error("the pod range {pods} and the service range {services} overlap (--pod-cidr, --service-cidr)")]
    Overlap {
        /// The pod range.
        pods: Cidr,
        /// The service range.
        services: Cidr,
    },
    /// The resolver has the tenth address.
    #[error("the service range {0} is too small, its prefix is at most 28 (--service-cidr)")]
    NoRoomForDns(Cidr),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_and_shown_again() {
        let cidr: Cidr = "10.87.0.0/16".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.87.0.0/16");
        assert_eq!(cidr.mask(), Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(cidr.broadcast(), Ipv4Addr::new(10, 87, 255, 255));
        assert!(cidr.contains(Ipv4Addr::new(10, 87, 3, 4)) && !cidr.contains(Ipv4Addr::new(10, 88, 0, 0)));
    }

    #[test]
    fn a_wrong_range_says_what_is_wrong() {
        for (text, why) in [
            ("fd00::/64", "IPv6 is not supported"),
            ("10.0.0.0", "it has no /PREFIX"),
            ("10.0.0.1/24", "bits are set after its prefix"),
            ("10.0.0.0/31", "its prefix is not from 8 to 29"),
            ("10.0.0/24", "it is no IPv4 address"),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(ConfigError::Cidr { text: text.to_owned(), why }));
        }
    }

    #[test]
    fn ranges_that_overlap_are_refused() {
        let text = r#"{"podCidr":"10.96.4.0/24"}"#;
        let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains("--pod-cidr"), "{error}");
    }

    #[test]
    fn the_file_is_under_the_flags() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/network.json"), r#"{"bridge":"b1","podCidr":"10.3.0.0/24"}"#)
            .unwrap();
        let flags = Flags { bridge: Some("b2".parse().unwrap()), ..Flags::default() };
        let config = Config::load(&layout, flags).unwrap();
        assert_eq!((config.bridge().as_str(), config.gateway()), ("b2", Ipv4Addr::new(10, 3, 0, 1)));
        assert_eq!(config.dns(), Ipv4Addr::new(10, 96, 0, 10));
        let again: Config = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
