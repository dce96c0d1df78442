//! Escapes in delimiters and formats, as shells do not expand them: `\t`, `\n`, `\x1f` …

/// The bytes that a text with escapes means.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('t') => b'\t',
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                hex(rest.next(), rest.next()).ok_or("\\x must be followed by two hexadecimal digits")?
            }
            Some(other) => {
                return Err(format!(
                    "\\{other} is no escape: use \\t \\n \\r \\0 \\\\ or \\xHH"
                ));
            }
            None => return Err("a single \\ at the end: write \\\\ for a backslash".to_owned()),
        });
    }
    Ok(bytes)
}

fn hex(high: Option<char>, low: Option<char>) -> Option<u8> {
    let digit = |c: char| c.to_digit(16);
    u8::try_from(digit(high?)? * 16 + digit(low?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_understood() {
        assert_eq!(unescape(r"\t").unwrap(), b"\t");
        assert_eq!(unescape(r"a\n\r\0\\b").unwrap(), b"a\n\r\0\\b");
        assert_eq!(unescape(r"\x1f\xFF").unwrap(), [0x1f, 0xff]);
        assert_eq!(unescape("ü, plain").unwrap(), "ü, plain".as_bytes());
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for bad in [r"\q", r"\", r"\x1", r"\xzz"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
