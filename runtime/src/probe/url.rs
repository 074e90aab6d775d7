//! A manifest's `httpGet.path` as it is asked for: what Go's `net/url` makes of it, since any text is a path to the
//! kubelet, also with blanks, letters of all languages and single per cent signs.

mod authority;

/// Path and query for a request line. Scheme and authority give way to the probe's own, a fragment is no part of it, an
/// escape is kept, and what a URL cannot hold is escaped; a text that is no URL at all is a path as a whole.
#[must_use]
pub fn request_target(text: &str) -> String {
    let (target, query) = match parse(text) {
        None => (escape(text.as_bytes(), is_plain), None),
        Some(Parsed { path, query, .. }) if path.bytes().all(is_written_as_it_is) => (path.to_owned(), query),
        Some(Parsed { plain, query, .. }) => (escape(&plain, is_plain), query),
    };
    let query = query.map(|query| format!("?{}", legal(query)));
    let slash = if target.starts_with('/') { "" } else { "/" };
    format!("{slash}{target}{}", query.unwrap_or_default())
}

/// Of a URL what a request line has.
struct Parsed<'a> {
    path: &'a str,
    /// The path without escapes.
    plain: Vec<u8>,
    query: Option<&'a str>,
}

/// Reads a URL or a relative reference; none if Go takes the text for neither. One without a slash behind its scheme, for which the
/// kubelet makes no request at all, is a text like any other here.
fn parse(text: &str) -> Option<Parsed<'_>> {
    let (whole, fragment) = text.split_once('#').unwrap_or((text, ""));
    if whole.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    unescape(fragment.as_bytes())?;
    let (scheme, rest) = cut_scheme(whole)?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let path = match rest.strip_prefix("//") {
        Some(after) if scheme.is_some() || !after.starts_with('/') => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            authority::is_valid(authority).then_some(path)?
        }
        Some(_) => rest,
        None if rest.starts_with('/') => rest,
        None if scheme.is_some() || rest.split('/').next()?.contains(':') => return None,
        None => rest,
    };
    Some(Parsed { path, plain: unescape(path.as_bytes())?, query })
}

/// The scheme, if there is one, and what follows; none where only its colon is.
fn cut_scheme(text: &str) -> Option<(Option<&str>, &str)> {
    let is_of_scheme = |byte: char| byte.is_ascii_alphanumeric() || "+-.".contains(byte);
    let (scheme, rest) = text.split_at(text.find(|byte| !is_of_scheme(byte)).unwrap_or(text.len()));
    match rest.strip_prefix(':') {
        Some(_) if scheme.is_empty() => None,
        Some(rest) if scheme.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            Some((Some(scheme), rest))
        }
        Some(_) | None => Some((None, text)),
    }
}

/// A URL with what it cannot hold escaped.
#[must_use]
pub fn legal(text: &str) -> String {
    escape(text.as_bytes(), |byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

fn escape(bytes: &[u8], is_kept: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match is_kept(*byte) {
            true => text.push(char::from(*byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Go never escapes these in a path.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

/// And with these beside them a path is taken as it is written.
fn is_written_as_it_is(byte: u8) -> bool {
    is_plain(byte) || b"!'()*[]%".contains(&byte)
}

/// None if a per cent sign is not followed by two hexadecimal digits.
fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        plain.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = after;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_asked_for_as_go_writes_it() {
        for (path, asked) in [
            ("/healthz", "/healthz"),
            ("healthz?a=b", "/healthz?a=b"),
            ("", "/"),
            ("?a", "/?a"),
            ("/a b", "/a%20b"),
            ("/a%20b/(c)", "/a%20b/(c)"),
            ("/a b/(c)%2F", "/a%20b/%28c%29/"),
            ("/\u{e9}\"{}", "/%C3%A9%22%7B%7D"),
            ("/100%?x#y", "/100%25%3Fx%23y"),
            ("/a?b c&d=\"#e", "/a?b%20c&d=%22"),
            ("/a\tb?c", "/a%09b%3Fc"),
            ("/a#\t", "/a"),
            ("/a#%", "/a%23%25"),
            ("*", "/*"),
        ] {
            assert_eq!(request_target(path), asked, "{path:?}");
            assert!(request_target(path).parse::<hyper::Uri>().is_ok(), "{path:?}");
        }
    }

    #[test]
    fn a_scheme_and_an_authority_are_cut_as_go_does_it() {
        for (path, asked) in [
            ("//a/b", "/b"),
            ("//a", "/"),
            ("//a?q", "/?q"),
            ("//a/b c", "/b%20c"),
            ("//a:80/b?c=d", "/b?c=d"),
            ("//user:word@a:/b", "/b"),
            ("//[::1%25eth0]:80/b", "/b"),
            ("//%C3%A9/b", "/b"),
            ("///a/b", "///a/b"),
            ("http://a/b", "/b"),
            ("http:///b", "/b"),
            ("HTTP:/b", "/b"),
            // No URLs: these are paths as a whole.
            ("http:b", "/http:b"),
            ("http://a b/c", "/http://a%20b/c"),
            ("//a:b/c", "//a:b/c"),
            ("//a:80:80/c", "//a:80:80/c"),
            ("//a]b@/c", "//a%5Db@/c"),
            ("//%41/b", "//%2541/b"),
            ("//[x]/b", "//%5Bx%5D/b"),
            ("//[::1/b", "//%5B::1/b"),
            (":a", "/:a"),
            ("1:a?b", "/1:a%3Fb"),
            ("a/b:c?d", "/a/b:c?d"),
        ] {
            assert_eq!(request_target(path), asked, "{path:?}");
            assert!(request_target(path).parse::<hyper::Uri>().is_ok(), "{path:?}");
        }
    }
}
