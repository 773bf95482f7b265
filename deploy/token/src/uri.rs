//! Which key on which token, in the words of RFC 7512.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Why a text names no key. A part that is not understood is refused: it would have narrowed the choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("not a PKCS#11 URI: it begins with `pkcs11:`, such as {EXAMPLE}")]
    Scheme,
    /// Neither `name=value` nor empty.
    #[error("a part of it is not `name=value`, as in {EXAMPLE}")]
    Part,
    /// An attribute that is not looked at here, or one of the query before the `?` or behind it.
    #[error("`{0}` is not looked at here: leave it out")]
    Unknown(String),
    /// An attribute that stands twice (RFC 7512 §2.3).
    #[error("`{0}` stands twice")]
    Twice(String),
    /// A value with bytes that have to be written as `%` and two digits, or with a wrong one of these.
    #[error("the value of `{0}` is not well written: a space is %20, a semicolon %3B, a percent sign %25")]
    Value(String),
    /// A PIN in the open.
    #[error(
        "a PIN in a command is read by every user of the machine, and kept by the shell: use pin-source=file:/…"
    )]
    PinValue,
    /// A source of a PIN that is no file.
    #[error("pin-source names a file, as in pin-source=file:/media/stick/pin; without it you are asked")]
    PinSource,
    /// A module by its name alone.
    #[error(
        "module-name is not looked for: name the library, as in module-path=/usr/lib/softhsm/libsofthsm2.so"
    )]
    ModuleName,
    /// A kind of object that is no key pair.
    #[error("type={0} is no key: write type=private, or leave it out")]
    Type(String),
    /// A slot that is no number.
    #[error("slot-id is a number")]
    Slot,
    /// Any key of the token.
    #[error("it names no key: say object=… or id=…, as in {EXAMPLE}")]
    AnyKey,
}

const EXAMPLE: &str = "'pkcs11:token=anna;object=root-anna?module-path=/usr/lib/softhsm/libsofthsm2.so'";

/// A key on a token: `pkcs11:token=…;object=…?module-path=…&pin-source=file:…`.
///
/// `Display` gives what a person calls it, without paths: "key `root-anna` on token `anna`".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's maker.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The slot's number. It may change when the token is plugged in again.
    pub slot: Option<u64>,
    /// The key's label (CKA_LABEL).
    pub object: Option<String>,
    /// The key's id (CKA_ID).
    pub id: Option<Vec<u8>>,
    /// The library that the token's maker brought.
    pub module: Option<PathBuf>,
    /// The file with the PIN.
    pub pin_file: Option<PathBuf>,
}

impl TokenUri {
    /// Says whether a text is meant as such a URI, well written or not.
    pub fn is_meant(text: &str) -> bool {
        text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
    }

    /// Returns how a person calls the token.
    pub(crate) fn token_name(&self) -> String {
        let named = [
            ("token", &self.token),
            ("maker", &self.manufacturer),
            ("model", &self.model),
            ("serial number", &self.serial),
        ];
        let mut said: Vec<String> =
            named.iter().filter_map(|(what, value)| Some(format!("{what} `{}`", value.as_ref()?))).collect();
        said.extend(self.slot.map(|slot| format!("slot {slot}")));
        if said.is_empty() { "any token".into() } else { said.join(", ") }
    }

    /// Returns how a person calls the key.
    pub(crate) fn key_name(&self) -> String {
        let label = self.object.as_ref().map(|label| format!("key `{label}`"));
        let id = self.id.as_ref().map(|id| {
            let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("key with the id {digits}")
        });
        label.or(id).unwrap_or_default()
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.key_name(), self.token_name())
    }
}

impl FromStr for TokenUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if !Self::is_meant(text) {
            return Err(UriError::Scheme);
        }
        let (path, query) = text[7..].split_once('?').unwrap_or((&text[7..], ""));
        let mut uri = Self {
            token: None,
            manufacturer: None,
            model: None,
            serial: None,
            slot: None,
            object: None,
            id: None,
            module: None,
            pin_file: None,
        };
        let mut seen = Vec::new();
        for part in path.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = split(part, &mut seen)?;
            uri.take_path(name, value)?;
        }
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = split(part, &mut seen)?;
            uri.take_query(name, value)?;
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::AnyKey);
        }
        Ok(uri)
    }
}

impl TokenUri {
    fn take_path(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriError> {
        match name {
            "token" => self.token = Some(text(name, value)?),
            "manufacturer" => self.manufacturer = Some(text(name, value)?),
            "model" => self.model = Some(text(name, value)?),
            "serial" => self.serial = Some(text(name, value)?),
            "slot-id" => self.slot = Some(text(name, value)?.parse().map_err(|_| UriError::Slot)?),
            "object" => self.object = Some(text(name, value)?),
            "id" => self.id = Some(value),
            "type" => match text(name, value)?.as_str() {
                "private" | "public" => {}
                other => return Err(UriError::Type(other.to_owned())),
            },
            _ => return Err(UriError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    fn take_query(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriError> {
        match name {
            "module-path" => self.module = Some(text(name, value)?.into()),
            "module-name" => return Err(UriError::ModuleName),
            "pin-value" => return Err(UriError::PinValue),
            "pin-source" => self.pin_file = Some(pin_file(&text(name, value)?)?),
            _ => return Err(UriError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

/// Takes a part apart; its name must not have been there before.
fn split<'a>(part: &'a str, seen: &mut Vec<&'a str>) -> Result<(&'a str, Vec<u8>), UriError> {
    // It may be a PIN in the open: no error repeats it.
    let (name, value) = part.split_once('=').ok_or(UriError::Part)?;
    if seen.contains(&name) {
        return Err(UriError::Twice(name.to_owned()));
    }
    seen.push(name);
    Ok((name, decode(value).ok_or_else(|| UriError::Value(name.to_owned()))?))
}

fn text(name: &str, value: Vec<u8>) -> Result<String, UriError> {
    String::from_utf8(value).map_err(|_| UriError::Value(name.to_owned()))
}

/// Undoes `%` and two digits (RFC 3986 §2.1).
fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                let [Some(high), Some(low)] = digits else { return None };
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b' '..=b'~' => bytes.push(byte),
            // A shell that was given no quotes, or an editor's long dash.
            _ => return None,
        }
    }
    Some(bytes)
}

/// Reads `file:/path`, `file:///path`, `file:path` or a path from the root.
fn pin_file(source: &str) -> Result<PathBuf, UriError> {
    let path = match source.strip_prefix("file:") {
        Some(path) => path.strip_prefix("//localhost/").map_or(path.to_owned(), |path| format!("/{path}")),
        None if source.starts_with('/') => source.to_owned(),
        None => return Err(UriError::PinSource),
    };
    let path = path.strip_prefix("//").unwrap_or(&path);
    if path.is_empty() { Err(UriError::PinSource) } else { Ok(path.into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<TokenUri, UriError> {
        text.parse()
    }

    #[test]
    fn a_key_is_named_by_token_and_object_and_the_query_says_how_it_is_reached() {
        let uri = parse(
            "pkcs11:token=The%20safe;manufacturer=Snake%20Oil,%20Inc.;serial=DECC0401648;slot-id=7;object=root-anna;id=%69%95%3E;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/media/pin",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("The safe"));
        assert_eq!(uri.manufacturer.as_deref(), Some("Snake Oil, Inc."));
        assert_eq!((uri.serial.as_deref(), uri.slot), (Some("DECC0401648"), Some(7)));
        assert_eq!((uri.object.as_deref(), uri.id.as_deref()), (Some("root-anna"), Some(&b"i\x95>"[..])));
        assert_eq!(uri.module, Some("/usr/lib/softhsm/libsofthsm2.so".into()));
        assert_eq!(uri.pin_file, Some("/media/pin".into()));
        let short = parse("pkcs11:token=anna;object=root-anna").unwrap();
        assert_eq!(short.to_string(), "key `root-anna` on token `anna`");
        assert_eq!(parse("PKCS11:id=%0a%FF").unwrap().to_string(), "key with the id 0aff on any token");
    }

    #[test]
    fn a_pin_comes_from_a_file_and_nowhere_else() {
        let source = |source: &str| {
            parse(&format!("pkcs11:object=a?pin-source={source}")).map(|uri| uri.pin_file.unwrap())
        };
        for good in ["file:/etc/pin", "file:///etc/pin", "/etc/pin", "file://localhost/etc/pin"] {
            assert_eq!(source(good), Ok("/etc/pin".into()), "{good}");
        }
        assert_eq!(source("file:pin"), Ok("pin".into()));
        for bad in ["%7C/usr/bin/ask", "|/usr/bin/ask", "https://pin.example", "1234", "file:", "file://"] {
            assert_eq!(source(bad), Err(UriError::PinSource), "{bad}");
        }
        let error = parse("pkcs11:object=a?pin-value=774411").unwrap_err();
        assert_eq!(error, UriError::PinValue);
        assert!(!error.to_string().contains("774411"));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_left_out() {
        let unknown = |name: &str| Err(UriError::Unknown(name.into()));
        assert_eq!(parse("pkcs11:object=a;library-version=3"), unknown("library-version"));
        assert_eq!(parse("pkcs11:object=a;module-path=/x"), unknown("module-path"), "it stands behind the ?");
        assert_eq!(parse("pkcs11:object=a?token=b"), unknown("token"));
        assert_eq!(parse("pkcs11:object=a;object=b"), Err(UriError::Twice("object".into())));
        assert_eq!(parse("pkcs11:object=a;type=cert"), Err(UriError::Type("cert".into())));
        assert_eq!(parse("pkcs11:object=a;slot-id=first"), Err(UriError::Slot));
        assert_eq!(parse("pkcs11:object=a?module-name=softhsm2"), Err(UriError::ModuleName));
        assert_eq!(parse("pkcs11:object=a;b"), Err(UriError::Part));
        for bad in ["%", "%2", "%zz", "caf\u{e9}", "%FF"] {
            let uri = format!("pkcs11:object={bad}");
            assert_eq!(parse(&uri), Err(UriError::Value("object".into())), "{bad}");
        }
        for nothing in ["pkcs11:", "pkcs11:token=anna", "pkcs11:?module-path=/x"] {
            assert_eq!(parse(nothing), Err(UriError::AnyKey), "{nothing}");
        }
        assert_eq!(parse("root-anna"), Err(UriError::Scheme));
        assert_eq!(parse("pkcs11"), Err(UriError::Scheme));
    }

    proptest! {
        #[test]
        fn every_label_reads_back_as_written(label in "\\PC{1,20}", id in prop::collection::vec(any::<u8>(), 1..9)) {
            let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let text = format!("pkcs11:object={};id={}", escape(label.as_bytes()), escape(&id));
            let uri = parse(&text).unwrap();
            prop_assert_eq!(uri.object, Some(label));
            prop_assert_eq!(uri.id, Some(id));
        }

        #[test]
        fn no_text_panics_the_reader(text: String, tail: String) {
            let _ = (parse(&text), parse(&format!("pkcs11:{tail}")), TokenUri::is_meant(&text));
        }
    }
}
