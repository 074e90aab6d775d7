//! Image references, normalised as docker does: `nginx` is `docker.io/library/nginx:latest`.
//!
//! The grammar is that of distribution/reference; the error texts are its own, because kubelet events
//! show them.

use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Docker tells this case apart.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// 64 hex digits would be mistaken for an image's id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than 255 characters.
    #[error("repository name must not be more than {NAME_LIMIT} characters")]
    TooLong,
    /// A digest by an algorithm that nobody here can compute.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// A digest whose length is not that of its algorithm.
    #[error("invalid checksum digest length")]
    DigestLength,
}

impl Error {
    /// The message of the kubelet's `InspectFailed` event for an `image` that cannot be parsed.
    #[must_use]
    pub fn in_event(&self, image: &str) -> String {
        format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {self}")
    }
}

/// A normalised reference: domain and path, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    version: Version,
}

/// What selects an image in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `:tag`.
    Tag(String),
    /// `@algorithm:hex`.
    Digest(String),
}

impl Reference {
    /// The registry's host, `docker.io` by default.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `domain/path`, without tag or digest.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag or digest.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The repository as people write it: `nginx`, `tutum/dnsutils`, `quay.io/a/b`.
    #[must_use]
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form for display: `nginx:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_version(self.familiar_repository())
    }

    /// The same repository at another digest.
    #[must_use]
    pub fn at_digest(&self, digest: &str) -> Self {
        Self { version: Version::Digest(digest.to_owned()), ..self.clone() }
    }

    fn with_version(&self, repository: String) -> String {
        match &self.version {
            Version::Tag(tag) => format!("{repository}:{tag}"),
            Version::Digest(digest) => format!("{repository}@{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.with_version(self.repository()))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_hex(text, 64) {
            return Err(Error::LooksLikeId(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let name_end = rest.find(':').unwrap_or(rest.len());
        if rest[..name_end].chars().any(char::is_uppercase) {
            return Err(Error::UpperCase(rest[..name_end].to_owned()));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(&domain) || !is_path(path) || !tag.is_none_or(is_tag) {
            return Err(Error::Format);
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(Error::TooLong);
        }
        digest.map_or(Ok(()), check_digest)?;
        let version = match (digest, tag) {
            (Some(digest), _) => Version::Digest(digest.to_owned()),
            (None, tag) => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { domain, path: path.to_owned(), version })
    }
}

/// Splits off the first component where it is a host, and fills in docker's defaults.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        None => (DEFAULT_DOMAIN, text),
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if is_host(first) => (first, rest),
        Some(_) => (DEFAULT_DOMAIN, text),
    };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    let rest = if official { format!("{OFFICIAL}/{rest}") } else { rest.to_owned() };
    (domain.to_owned(), rest)
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let valid =
                !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            return valid && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let mut separators = component.split(word).filter(|separator| !separator.is_empty());
    component.starts_with(word) && component.ends_with(word) && separators.all(is_separator)
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn check_digest(digest: &str) -> Result<(), Error> {
    let (algorithm, hex) = digest.split_once(':').ok_or(Error::Format)?;
    let part = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let hexadecimal = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !algorithm.split(['-', '_', '+', '.']).all(part) || !hexadecimal || hex.len() < 32 {
        return Err(Error::Format);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(Error::Algorithm),
    };
    if hex.len() != length {
        return Err(Error::DigestLength);
    }
    if is_hex(hex, length) { Ok(()) } else { Err(Error::Format) }
}

/// Exactly `length` lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        match text.parse::<Reference>() {
            Ok(reference) => format!("{reference} {}", reference.familiar()),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn references_are_normalised_as_docker_does() {
        let hex = "a".repeat(64);
        let cases = [
            ("nginx", "docker.io/library/nginx:latest nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25 nginx:1.25"),
            ("localhost", "docker.io/library/localhost:latest localhost:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000 localhost:5000"),
            ("tutum/dnsutils", "docker.io/tutum/dnsutils:latest tutum/dnsutils:latest"),
            ("library/nginx", "docker.io/library/nginx:latest nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest nginx:latest"),
            ("localhost/a", "localhost/a:latest localhost/a:latest"),
            ("quay.io/a/b:v1", "quay.io/a/b:v1 quay.io/a/b:v1"),
            ("host:5000/a", "host:5000/a:latest host:5000/a:latest"),
            ("HOST/a", "HOST/a:latest HOST/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest [::1]:5000/a:latest"),
            ("a.b/c__d/e---f", "a.b/c__d/e---f:latest a.b/c__d/e---f:latest"),
        ];
        for (text, expected) in cases {
            assert_eq!(normal(text), expected, "{text}");
        }
        let both = format!("nginx:1@sha256:{hex}");
        assert_eq!(
            both.parse::<Reference>().unwrap().to_string(),
            format!("docker.io/library/nginx@sha256:{hex}")
        );
    }

    #[test]
    fn what_is_no_reference_is_refused_with_dockers_words() {
        let format = "error: invalid reference format";
        let cases = [
            ("", format),
            (":tag", format),
            ("a//b", format),
            ("/a", format),
            ("a/", format),
            ("a:", format),
            ("-a", format),
            ("a-", format),
            ("a___b", format),
            ("a..b", format),
            ("a b", format),
            ("a:-x", format),
            ("a@", format),
            ("a@sha256:12", format),
            ("docker.io/", format),
            ("ho_st.x/a", format),
            ("Nginx", "error: invalid reference format: repository name (library/Nginx) must be lowercase"),
            ("a@md5:00000000000000000000000000000000", "error: unsupported digest algorithm"),
            ("a@sha256:00000000000000000000000000000000", "error: invalid checksum digest length"),
        ];
        for (text, expected) in cases {
            assert_eq!(normal(text), expected, "{text:?}");
        }
        let hex = "0".repeat(64);
        assert!(normal(&hex).contains("cannot specify 64-byte hexadecimal strings"));
        assert!(normal(&format!("a:{}", "t".repeat(129))).contains("invalid reference format"));
        assert!(normal(&"a".repeat(256)).contains("must not be more than 255 characters"));
    }

    #[test]
    fn the_kubelet_event_names_the_image_twice() {
        let error = "a b".parse::<Reference>().unwrap_err();
        assert_eq!(
            error.in_event("a b"),
            "Failed to apply default image tag \"a b\": couldn't parse image name \"a b\": invalid reference format"
        );
    }
}
