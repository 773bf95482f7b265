//! Texts with variables in them, and what the robot says by itself in the languages that it knows.

use std::collections::BTreeMap;

/// A text with variables in it: `您好，请问是{name}吗？`. `{{` and `}}` are braces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Var(String),
    Slot(String),
}

impl Template {
    /// Reads a text; the error is a message and a remedy.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.trim().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    plain.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some('{') | None => {
                                return Err((
                                    format!("`{{{name}` is not closed"),
                                    "write {name} for a variable, {slot.name} for a slot, {{ for a brace",
                                ));
                            }
                            Some(c) => name.push(c),
                        }
                    }
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    let name = name.trim();
                    let piece = match name.strip_prefix("slot.") {
                        Some(slot) => Piece::Slot(slot.to_owned()),
                        None => Piece::Var(name.strip_prefix("var.").unwrap_or(name).to_owned()),
                    };
                    pieces.push(piece);
                }
                '}' => {
                    return Err(("`}` closes nothing".to_owned(), "write }} for a brace that is to be said"));
                }
                c if c.is_control() => plain.push(' '),
                c => plain.push(c),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// Wraps a text without variables.
    pub(crate) fn plain(text: &str) -> Self {
        Self { pieces: vec![Piece::Text(text.to_owned())] }
    }

    /// Writes the text as it stands in the file.
    pub(crate) fn source(&self) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Piece::Var(name) => out.extend(["{", name, "}"]),
                Piece::Slot(name) => out.extend(["{slot.", name, "}"]),
            }
        }
        out
    }

    pub(crate) fn vars(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Var(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Slot(_) => None,
        })
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Var(_) => None,
        })
    }

    /// Fills in what is known; what is not is left out.
    pub(crate) fn fill(&self, vars: &BTreeMap<String, String>, slots: &BTreeMap<String, String>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Var(name) => out.push_str(vars.get(name).map_or("", String::as_str)),
                Piece::Slot(name) => out.push_str(slots.get(name).map_or("", String::as_str)),
            }
        }
        out
    }
}

/// What the robot says where a script has no wording of its own.
pub(crate) struct Builtin {
    pub(crate) wait: &'static str,
    pub(crate) ask_robot: &'static str,
    pub(crate) who_are_you: &'static str,
    /// With the variable `org`, where the script has one.
    pub(crate) who_are_you_org: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) opt_out: &'static str,
    pub(crate) handoff: &'static str,
    pub(crate) no_input: &'static str,
    pub(crate) no_match: &'static str,
    pub(crate) silence: &'static str,
    pub(crate) goodbye: &'static str,
    pub(crate) lost: &'static str,
}

const CHINESE: Builtin = Builtin {
    wait: "好的，不着急，您慢慢来。",
    ask_robot: "是的，我是智能语音助手。需要的话，我可以帮您转接人工。",
    who_are_you: "我是智能语音助手，有件事需要和您确认一下。",
    who_are_you_org: "我是{org}的智能语音助手，有件事需要和您确认一下。",
    busy: "好的，那就不打扰您了，我们改个时间再联系您。再见。",
    opt_out: "好的，已经为您登记，以后不会再给您拨打这类电话。打扰您了，再见。",
    handoff: "好的，马上为您转接人工，请稍候。",
    no_input: "您好，请问能听到我说话吗？",
    no_match: "不好意思，我没有听明白。",
    silence: "好像听不到您的声音，那就先不打扰了。再见。",
    goodbye: "今天先聊到这里，感谢您的接听。再见。",
    lost: "很抱歉，我们的系统出了点问题，稍后会再与您联系。感谢您的接听，再见。",
};

const ENGLISH: Builtin = Builtin {
    wait: "Of course, take your time.",
    ask_robot: "Yes, I'm an automated assistant. I can put you through to a person if you like.",
    who_are_you: "I'm an automated assistant, and I have something to check with you.",
    who_are_you_org: "I'm the automated assistant of {org}, and I have something to check with you.",
    busy: "No problem, I won't keep you. We'll try again another time. Goodbye.",
    opt_out: "All right, I've taken you off the list, and we won't make this kind of call to you again. Goodbye.",
    handoff: "Certainly, I'm putting you through to a person. One moment, please.",
    no_input: "Hello, can you hear me?",
    no_match: "Sorry, I didn't quite get that.",
    silence: "I can't seem to hear you, so I'll let you go. Goodbye.",
    goodbye: "Let's leave it there for today. Thank you for your time. Goodbye.",
    lost: "I'm sorry, something went wrong on our side. We'll get back to you. Thank you, and goodbye.",
};

/// Returns the wordings for a language, if it is one of those that are known.
pub(crate) fn builtin(locale: &str) -> Option<&'static Builtin> {
    match locale.split(['-', '_']).next() {
        Some("zh") => Some(&CHINESE),
        Some("en") => Some(&ENGLISH),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_with_what_is_known() {
        let template = Template::parse("Hi {name}, {{see}} {slot.day} {var.org}").unwrap();
        let vars =
            BTreeMap::from([("name".to_owned(), "Ada".to_owned()), ("org".to_owned(), "Acme".to_owned())]);
        let slots = BTreeMap::from([("day".to_owned(), "Monday".to_owned())]);
        assert_eq!(template.fill(&vars, &slots), "Hi Ada, {see} Monday Acme");
        assert_eq!(template.source(), "Hi {name}, {{see}} {slot.day} {org}");
        assert_eq!(template.vars().collect::<Vec<_>>(), ["name", "org"]);
        assert_eq!(template.slots().collect::<Vec<_>>(), ["day"]);
    }

    #[test]
    fn a_brace_that_is_not_closed_is_named() {
        assert!(Template::parse("Hi {name").unwrap_err().0.contains("{name"));
        assert!(Template::parse("Hi }").is_err());
    }
}
