//! Pinyin syllables to the IPA symbols that Kokoro's Mandarin voices know.

/// A final, split where the tone mark goes: after its vowel, before its nasal.
struct Final {
    pinyin: &'static str,
    vowel: &'static str,
    coda: &'static str,
}

const fn f(pinyin: &'static str, vowel: &'static str, coda: &'static str) -> Final {
    Final { pinyin, vowel, coda }
}

/// Finals in full spelling (`iou`, not `iu`), with `v` for ü.
const FINALS: [Final; 35] = [
    f("a", "a", ""),
    f("ai", "ai", ""),
    f("an", "a", "n"),
    f("ang", "a", "ŋ"),
    f("ao", "au", ""),
    f("e", "ɤ", ""),
    f("ei", "ei", ""),
    f("en", "ə", "n"),
    f("eng", "ə", "ŋ"),
    f("i", "i", ""),
    f("ia", "ja", ""),
    f("ian", "jɛ", "n"),
    f("iang", "ja", "ŋ"),
    f("iao", "jau", ""),
    f("ie", "je", ""),
    f("in", "i", "n"),
    f("ing", "i", "ŋ"),
    f("iong", "jʊ", "ŋ"),
    f("iou", "jou", ""),
    f("o", "wo", ""),
    f("ong", "ʊ", "ŋ"),
    f("ou", "ou", ""),
    f("u", "u", ""),
    f("ua", "wa", ""),
    f("uai", "wai", ""),
    f("uan", "wa", "n"),
    f("uang", "wa", "ŋ"),
    f("uei", "wei", ""),
    f("uen", "wə", "n"),
    f("ueng", "wə", "ŋ"),
    f("uo", "wo", ""),
    f("v", "y", ""),
    f("ve", "ɥe", ""),
    f("van", "ɥɛ", "n"),
    f("vn", "y", "n"),
];

/// Initials, two-letter ones first so that `zh` is not read as `z`.
const INITIALS: [(&str, &str); 21] = [
    ("zh", "ꭧ"),
    ("ch", "ꭧʰ"),
    ("sh", "ʂ"),
    ("b", "p"),
    ("p", "pʰ"),
    ("m", "m"),
    ("f", "f"),
    ("d", "t"),
    ("t", "tʰ"),
    ("n", "n"),
    ("l", "l"),
    ("g", "k"),
    ("k", "kʰ"),
    ("h", "x"),
    ("j", "ʨ"),
    ("q", "ʨʰ"),
    ("x", "ɕ"),
    ("r", "ɻ"),
    ("z", "ʦ"),
    ("c", "ʦʰ"),
    ("s", "s"),
];

/// Syllables that no table of initials and finals holds.
const WHOLE: [(&str, &str, &str); 9] = [
    ("er", "ɚ", ""),
    ("o", "ɔ", ""),
    ("yo", "jɔ", ""),
    ("ê", "ɛ", ""),
    ("m", "m", ""),
    ("n", "n", ""),
    ("ng", "ŋ", ""),
    ("hm", "hm", ""),
    ("hng", "hŋ", ""),
];

/// Turns a syllable such as `zhong1` into symbols such as `ꭧʊ→ŋ`; tone 5 (neutral) has no mark.
/// `v` and `ü` both stand for ü. Returns `None` for what is no Mandarin syllable.
pub fn syllable_to_ipa(pinyin: &str) -> Option<String> {
    let tone = pinyin.chars().last()?.to_digit(10)?;
    let body = pinyin[..pinyin.len() - 1].replace('ü', "v");
    let mark = match tone {
        1 => "→",
        2 => "↗",
        3 => "↓",
        4 => "↘",
        0 | 5 => "",
        _ => return None,
    };
    if let Some((_, vowel, coda)) = WHOLE.iter().find(|(name, _, _)| *name == body) {
        return Some(format!("{vowel}{mark}{coda}"));
    }
    let (initial, sound, rest) = match INITIALS.iter().find(|(i, _)| body.starts_with(i)) {
        Some((initial, sound)) => (*initial, *sound, body[initial.len()..].to_owned()),
        None => ("", "", without_glide_letters(&body)?),
    };
    let rest = full_spelling(initial, &rest);
    if rest == "i" && matches!(initial, "zh" | "ch" | "sh" | "r" | "z" | "c" | "s") {
        return Some(format!("{sound}ɨ{mark}"));
    }
    let end = FINALS.iter().find(|f| f.pinyin == rest)?;
    Some(format!("{sound}{}{mark}{}", end.vowel, end.coda))
}

/// `yan` is `ian` without an initial, `wu` is `u`.
fn without_glide_letters(body: &str) -> Option<String> {
    if let Some(rest) = body.strip_prefix('y') {
        return Some(match rest {
            "i" | "in" | "ing" => rest.to_owned(),
            "u" | "v" => "v".to_owned(),
            "ue" | "ve" => "ve".to_owned(),
            "uan" | "van" => "van".to_owned(),
            "un" | "vn" => "vn".to_owned(),
            _ => format!("i{rest}"),
        });
    }
    if let Some(rest) = body.strip_prefix('w') {
        return Some(if rest == "u" { rest.to_owned() } else { format!("u{rest}") });
    }
    body.starts_with(['a', 'e', 'o']).then(|| body.to_owned())
}

/// Undoes the shortened spellings: `iu`, `ui`, `un`, and u for ü after j, q, x.
fn full_spelling(initial: &str, rest: &str) -> String {
    if matches!(initial, "j" | "q" | "x")
        && let Some(tail) = rest.strip_prefix('u')
    {
        return format!("v{tail}");
    }
    match rest {
        "iu" => "iou".to_owned(),
        "ou" if initial.is_empty() => "ou".to_owned(),
        "iou" => "iou".to_owned(),
        "ui" => "uei".to_owned(),
        "un" => "uen".to_owned(),
        "ue" => "ve".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_become_the_symbols_of_the_voice() {
        let cases = [
            ("ni3", "ni↓"),
            ("hao3", "xau↓"),
            ("zhong1", "ꭧʊ→ŋ"),
            ("guo2", "kwo↗"),
            ("shi4", "ʂɨ↘"),
            ("zi5", "ʦɨ"),
            ("ri4", "ɻɨ↘"),
            ("ju4", "ʨy↘"),
            ("xue2", "ɕɥe↗"),
            ("quan2", "ʨʰɥɛ↗n"),
            ("yun4", "y↘n"),
            ("lv4", "ly↘"),
            ("lüe4", "lɥe↘"),
            ("liu4", "ljou↘"),
            ("gui4", "kwei↘"),
            ("dun4", "twə↘n"),
            ("wo3", "wo↓"),
            ("wu3", "u↓"),
            ("yi1", "i→"),
            ("you3", "jou↓"),
            ("ying1", "i→ŋ"),
            ("yong4", "jʊ↘ŋ"),
            ("weng1", "wə→ŋ"),
            ("bo1", "pwo→"),
            ("er4", "ɚ↘"),
            ("a5", "a"),
        ];
        for (pinyin, ipa) in cases {
            assert_eq!(syllable_to_ipa(pinyin).as_deref(), Some(ipa), "{pinyin}");
        }
        assert_eq!(syllable_to_ipa("xyz1"), None);
        assert_eq!(syllable_to_ipa(""), None);
    }
}
