//! The page as HTML. Whatever comes from elsewhere is escaped.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde_json::Value;
use trunkline_model::BoxId;
use trunkline_trust::ClaimCode;
use trunkline_wire::Reported;

use super::checks::Checks;
use super::words::Language;

/// A clock that is off by less is good enough for certificates and call records.
const TOLERATED: SignedDuration = SignedDuration::from_mins(5);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:1rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.3rem}h2{font-size:1.05rem;margin:1.5rem 0 .3rem}table{border-collapse:collapse;width:100%}\
td{padding:.25rem .5rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top}td:first-child{width:12rem}\
.y{color:#176b2c}.n{color:#b3261e;font-weight:600}.s{color:#666}.c{font:1.6rem monospace;letter-spacing:.1em}\
input{font:1.2rem monospace;padding:.3rem;width:12rem}button{font:inherit;padding:.35rem 1rem}\
a{color:#245}header{display:flex;justify-content:space-between;align-items:baseline}";

/// What the page shows to who is in.
pub(super) struct Shown {
    pub(super) id: BoxId,
    /// The code, while the box waits to be claimed.
    pub(super) code: Option<ClaimCode>,
    /// The end of its certificate.
    pub(super) until: Option<Timestamp>,
    pub(super) now: Timestamp,
    pub(super) linked: bool,
    pub(super) report: Option<Reported>,
    pub(super) checks: Checks,
}

/// The page for who is not in: it says nothing about the box, not even which one it is.
pub(super) fn login(language: Language, trouble: Option<&str>) -> String {
    let words = language.words();
    let trouble = trouble.map(|text| format!("<p class=n>{}</p>", escape(text))).unwrap_or_default();
    let body = format!(
        "{trouble}<form method=post action=\"/login?lang={}\"><p><label>{}<br><input name=code autocomplete=off \
         autocapitalize=characters maxlength=20 required autofocus></label> <button>{}</button></p><p class=s>{}</p></form>",
        language.code(),
        escape(words.code),
        escape(words.open),
        escape(words.hint)
    );
    page(language, &body)
}

/// The page for who is in.
pub(super) fn status(language: Language, shown: &Shown) -> String {
    let words = language.words();
    let mut body = String::new();
    joining(&mut body, language, shown);
    network(&mut body, language, shown);
    lines(&mut body, language, shown);
    versions(&mut body, language, shown);
    let _ = write!(
        body,
        "<form method=post action=/logout><p><button>{}</button></p></form><p class=s>{}</p>",
        escape(words.leave),
        shown.now.strftime("%Y-%m-%d %H:%M:%S UTC")
    );
    page(language, &body)
}

fn joining(body: &mut String, language: Language, shown: &Shown) {
    let words = language.words();
    heading(body, words.joining);
    row(body, words.id, None, shown.id.as_str());
    match (&shown.code, shown.until) {
        (Some(code), _) => {
            row(body, words.joining, Some((false, language)), words.not_joined);
            let _ = write!(
                body,
                "<tr><td>{}</td><td><span class=c>{}</span><br><img src=/label.svg alt=\"\" width=200 height=200></td></tr>",
                escape(words.claim),
                escape(&code.reveal())
            );
        }
        (None, Some(until)) => {
            let text = format!("{}, {} {}", words.joined, words.until, until.strftime("%Y-%m-%d"));
            row(body, words.joining, Some((until > shown.now, language)), &text);
        }
        (None, None) => row(body, words.joining, Some((false, language)), ""),
    }
    body.push_str("</table>");
}

fn network(body: &mut String, language: Language, shown: &Shown) {
    let (words, checks) = (language.words(), &shown.checks);
    heading(body, words.network);
    for (name, up) in &checks.links {
        row(body, &format!("{} {name}", words.cable), Some((*up, language)), "");
    }
    row(body, words.route, Some((checks.route, language)), if checks.route { "" } else { words.no_route });
    let told = |result: &Result<(), String>| result.as_ref().err().cloned().unwrap_or_default();
    row(body, words.names, Some((checks.names.is_ok(), language)), &told(&checks.names));
    let (good, text) = match checks.clock {
        None => (false, words.time_unknown.to_owned()),
        Some(off) if off.abs() > TOLERATED => (false, format!("{} {} s", words.time_off, off.as_secs())),
        Some(_) => (true, String::new()),
    };
    row(body, words.time, Some((good, language)), &text);
    row(body, words.api, Some((checks.api.is_ok(), language)), &told(&checks.api));
    row(body, words.broker, Some((checks.broker.is_ok(), language)), &told(&checks.broker));
    let text = if shown.linked { "" } else { words.no_link };
    row(body, words.link, Some((shown.linked, language)), text);
    body.push_str("</table>");
}

fn lines(body: &mut String, language: Language, shown: &Shown) {
    let words = language.words();
    heading(body, words.lines);
    let calls = shown.report.as_ref().and_then(|report| report.calls.as_ref());
    if let Some(calls) = calls {
        row(body, &calls.state, Some((calls.state == "up", language)), &calls.why);
    }
    let trunks = calls.map(|calls| calls.trunks.as_slice()).unwrap_or_default();
    for trunk in trunks {
        let registered = if trunk.registered == Some(true) { words.registered } else { "" };
        let text = if trunk.up { registered } else { &trunk.trouble };
        row(body, &trunk.name, Some((trunk.up, language)), text);
    }
    if trunks.is_empty() {
        row(body, words.lines, None, words.no_lines);
    }
    body.push_str("</table>");
}

fn versions(body: &mut String, language: Language, shown: &Shown) {
    let words = language.words();
    heading(body, words.versions);
    if let Some(report) = &shown.report {
        row(body, "software", None, &report.software);
    }
    let components = shown.report.as_ref().map(|report| report.components.as_slice()).unwrap_or_default();
    for component in components {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let release = |of: &Value| text(&of["release"]["version"]);
        let (current, next) = (release(&component["current"]), release(&component["job"]));
        let stage = text(&component["stage"]);
        let next = if next.is_empty() { next } else { format!(" → {next}") };
        let good = !matches!(stage.as_str(), "failed" | "rolled_back");
        let shown = format!("{current}{next}, {} {stage}", words.step);
        row(body, &text(&component["component"]), Some((good, language)), &shown);
    }
    if let Some(trouble) = shown.report.as_ref().and_then(|report| report.trouble.as_ref()) {
        row(body, words.versions, Some((false, language)), trouble);
    }
    if components.is_empty() {
        row(body, words.versions, None, words.no_versions);
    }
    body.push_str("</table>");
}

fn heading(body: &mut String, text: &str) {
    let _ = write!(body, "<h2>{}</h2><table>", escape(text));
}

fn row(body: &mut String, name: &str, good: Option<(bool, Language)>, text: &str) {
    let mark = match good {
        None => String::new(),
        Some((good, language)) => {
            let words = language.words();
            let (class, word) = if good { ("y", words.good) } else { ("n", words.bad) };
            format!("<span class={class}>{}</span> ", escape(word))
        }
    };
    let _ = write!(body, "<tr><td>{}</td><td>{mark}{}</td></tr>", escape(name), escape(text));
}

fn page(language: Language, body: &str) -> String {
    let words = language.words();
    let other = match language {
        Language::English => "zh",
        Language::Chinese => "en",
    };
    format!(
        "<!doctype html><html lang={}><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><header><h1>{title}</h1>\
         <a href=\"/?lang={other}\">{}</a></header>{body}</body></html>\n",
        language.code(),
        words.other,
        title = escape(words.title),
    )
}

/// The label as a picture: `TRUNKLINE`, the box and its code, as headquarters' scanner reads it.
pub(super) fn label(id: &BoxId, code: &ClaimCode) -> Option<String> {
    let text = format!("TRUNKLINE:{id}:{}", code.reveal());
    let picture = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M).ok()?;
    Some(picture.render::<svg::Color<'_>>().min_dimensions(200, 200).build())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What a terminal would obey is nothing that a page shows.
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
