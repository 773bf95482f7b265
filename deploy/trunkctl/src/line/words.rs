//! What people on site read, in English and Chinese.

use std::fmt::Write;

use serde::Serialize;

use super::{Lang, Profile};

/// A text in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Text {
    en: String,
    zh: String,
}

impl Text {
    pub(super) fn of(&self, lang: Lang) -> String {
        match lang {
            Lang::En => self.en.clone(),
            Lang::Zh => self.zh.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.en.is_empty()
    }
}

pub(super) fn both(en: impl Into<String>, zh: impl Into<String>) -> Text {
    Text { en: en.into(), zh: zh.into() }
}

/// A text that is the same in both, such as a figure with its unit.
pub(super) fn same(text: impl Into<String>) -> Text {
    let text = text.into();
    Text { en: text.clone(), zh: text }
}

pub(super) fn testing(trunk: &str, lang: Lang) -> String {
    both(format!("Testing trunk {trunk} …"), format!("正在测试线路 {trunk} ……")).of(lang)
}

pub(super) fn press(lang: Lang) -> String {
    both("On the telephone that was called, please press 1, 2, 3 now.", "请在被叫话机上依次按 1、2、3。")
        .of(lang)
}

pub(super) fn heard_us(lang: Lang) -> String {
    both(
        "Did the telephone play two sweeping tones and three keys? Type y or n and Enter.",
        "话机里是否听到两声滑音和三声按键音？请输入 y 或 n 并回车。",
    )
    .of(lang)
}

/// What `--find-profile` found, with the lines for `edge.toml`.
pub(super) fn profile(profile: &Profile, lang: Lang) -> String {
    let mut out = String::new();
    let title = both(
        format!("Codecs of trunk {}, in the clear and encrypted, one call each", profile.trunk),
        format!("线路 {} 的编码，明文和加密各试呼一次", profile.trunk),
    );
    let _ = writeln!(out, "\n{}", title.of(lang));
    for tried in &profile.tried {
        let (mark, name) = (if tried.works { "✓" } else { "✗" }, tried.codec.name());
        let sealed = if tried.encrypted { both("encrypted", "加密") } else { Text::default() };
        let sealed = sealed.of(lang);
        let gap = if sealed.is_empty() { "" } else { " " };
        let _ = writeln!(out, "  {mark} {name}{gap}{sealed}  {}", tried.told);
    }
    let working: Vec<String> = profile.working().map(|name| format!("\"{name}\"")).collect();
    if working.is_empty() {
        let none = both("No codec works: see the sheet for why.", "没有一种编码可用，原因见测试单。");
        let _ = writeln!(out, "{}", none.of(lang));
        return out;
    }
    let put = both("Put into [[trunk]] of edge.toml:", "请写入 edge.toml 的 [[trunk]]：");
    let _ = writeln!(out, "{}\n  codecs = [{}]", put.of(lang), working.join(", "));
    let _ = writeln!(out, "  encryption = \"{}\"\n  keys = \"{}\"", profile.encryption(), profile.keys());
    let keys = match (profile.keys(), profile.sound) {
        ("events", _) => both("Keys go as telephone events (RFC 4733).", "按键以电话事件（RFC 4733）传送。"),
        ("info", _) => both(
            "The trunk takes no telephone events; it answers keys by INFO. Press one in a real call to see that it arrives.",
            "该线路不支持电话事件，但接受 INFO 按键。请在真实通话中按键确认对方能收到。",
        ),
        (_, true) => both(
            "The trunk takes neither telephone events nor INFO; keys as sound came back.",
            "该线路不支持电话事件和 INFO；带内按键音已返回。",
        ),
        (_, false) => both(
            "The trunk takes neither telephone events nor INFO; keys go as sound, which was not seen to arrive.",
            "该线路不支持电话事件和 INFO；按键以带内音发送，未确认对方能收到。",
        ),
    };
    let _ = writeln!(out, "{}", keys.of(lang));
    out
}
