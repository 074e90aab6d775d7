//! A manifest's `httpGet.path` as it is asked for: what Go's `net/url` makes of it, since any text is a path to the
//! kubelet, also with blanks, letters of all languages and single per cent signs.

/// Path and query for a request line. A fragment is no part of it, an escape is kept, and what a URL cannot hold is
/// escaped; a text that is no URL at all is a path as a whole.
#[must_use]
pub fn request_target(text: &str) -> String {
    let whole = text.split_once('#').map_or(text, |(before, _)| before);
    let (path, query) = whole.split_once('?').map_or((whole, None), |(path, query)| (path, Some(query)));
    let unescaped = unescape(path.as_bytes()).filter(|_| !text.bytes().any(|byte| byte.is_ascii_control()));
    let (target, query) = match unescaped {
        None => (escape(text.as_bytes(), is_plain), None),
        Some(_) if path.bytes().all(is_written_as_it_is) => (path.to_owned(), query),
        Some(bytes) => (escape(&bytes, is_plain), query),
    };
    let query = query.map(|query| format!("?{}", legal(query)));
    let slash = if target.starts_with('/') { "" } else { "/" };
    format!("{slash}{target}{}", query.unwrap_or_default())
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
        ] {
            assert_eq!(request_target(path), asked, "{path:?}");
            assert!(request_target(path).parse::<hyper::Uri>().is_ok(), "{path:?}");
        }
    }
}
