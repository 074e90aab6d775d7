//! Whether a text is the authority of a URL (user, host and port) to Go's `net/url`.

use std::net::Ipv6Addr;

use super::unescape;

/// Whether Go takes it; an empty one, too.
pub(super) fn is_valid(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let is_of_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    user.bytes().all(is_of_user) && unescape(user.as_bytes()).is_some() && is_host(host)
}

fn is_host(text: &str) -> bool {
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((inside, port)) = bracketed.rsplit_once(']') else { return false };
        let address = inside.split_once("%25").map_or(inside, |(address, _zone)| address);
        return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
    }
    let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    is_name(name) && is_port(port)
}

/// With its colon; none, and a colon alone, will do.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Escapes stand for what is not ASCII, or for a per cent sign.
fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| {
        !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=[]<>\"%".contains(&byte)
    };
    let may_be_escaped =
        |after: &str| after.starts_with("25") || after.starts_with(|digit| "89abcdefABCDEF".contains(digit));
    text.bytes().all(is_of_name)
        && unescape(text.as_bytes()).is_some()
        && text.split('%').skip(1).all(may_be_escaped)
}
