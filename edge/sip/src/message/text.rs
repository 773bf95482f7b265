//! Splitting and quoting that every header grammar shares (RFC 3261 §25.1).

/// Yields the parts of `text` between `separator`s that stand outside quotes and angle brackets, trimmed.
///
/// Empty parts are left out, as the lenient reading of `a, , b` wants.
pub(crate) fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        loop {
            let current = rest?;
            let part = match find_outside_quotes(current, separator) {
                Some(at) => {
                    rest = Some(&current[at + separator.len_utf8()..]);
                    &current[..at]
                }
                None => {
                    rest = None;
                    current
                }
            };
            let part = part.trim();
            if !part.is_empty() {
                return Some(part);
            }
        }
    })
}

/// Finds the first `wanted` outside quoted strings and outside `<…>`.
pub(crate) fn find_outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    let mut angle = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        if quoted {
            match c {
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            continue;
        }
        if c == wanted && !angle {
            return Some(at);
        }
        match c {
            '"' => quoted = true,
            '<' => angle = true,
            '>' => angle = false,
            _ => {}
        }
    }
    None
}

/// Puts `text` in double quotes, escaping what must be; control characters become spaces.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Takes the quotes and escapes off `text`; text without quotes comes back as it is.
pub(crate) fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if !escaped && c == '\\' {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(c);
    }
    out
}

/// Tells whether `text` is a non-empty `token` of the grammar.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// Replaces what would break a header line apart, so that no value can smuggle in another header.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c == '\r' || c == '\n' || c == '\0' { ' ' } else { c }).collect()
}
