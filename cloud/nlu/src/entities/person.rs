//! Names of people, as they say them on the telephone: after words that introduce a name, or with a title.
//!
//! Mandarin has the surname first, and there are few of them; English has capitals, which a recogniser writes.
//! What introduces a name need not be followed by one (`我是说`, "I'm busy"), so what follows must look like one.

use super::en_number::Token;
use super::zh_number::Chars;
use super::{Candidate, EntityValue};

/// The surnames of nine in ten people in China, the compound ones first.
const COMPOUND: &[&str] = &[
    "欧阳", "上官", "司马", "诸葛", "皇甫", "东方", "尉迟", "司徒", "夏侯", "令狐", "慕容", "公孙", "轩辕",
    "长孙",
];
const SURNAMES: &str = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田\
                        任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文";
/// Words that begin like a name and are none.
const WORDS: &[&str] = &[
    "方便", "方面", "高兴", "高级", "马上", "何时", "何必", "常常", "常用", "于是", "金额", "钱都", "钱还",
    "钱在", "钱款", "白天", "文件", "康复", "易懂", "石油", "毛病", "万一", "万元", "江苏", "江西", "林业",
    "段时", "田里", "任何", "余额", "余下", "程序", "夏天", "龙头", "史上", "段话", "周一", "周二", "周三",
    "周四", "周五", "周六", "周日", "周末", "周围", "许多", "许可", "黄金", "高的", "何况", "白的", "顾客",
    "任务", "武汉", "常住", "贺卡", "雷雨", "汤圆", "孔子", "金融", "马来", "方式", "方案", "林子", "江南",
    "江北", "郑州", "苏州", "徐州", "梁子", "程度", "成都",
];
/// After a name as far as `吗` or the like; what else may follow ends a clause.
const AFTER: &str = "啊呀吧呢的本，。！？、,.!? ";
/// No part of a given name.
const NOT_GIVEN: &str = "的了吗呢吧啊呀是在有我你他她它们这那不没就都也还要会能可以来去说到和跟与把被给从对么什怎哪谁几多少先女老师";
const ASKED: &[&str] = &["我的名字是", "名字是", "名字叫", "我名字叫", "本人叫", "我叫", "叫我"];
const SAID: &[&str] = &["本人是", "我就是", "我是", "这里是", "这是", "是", "找"];
const SURNAME_ONLY: &[&str] = &["我免贵姓", "免贵姓", "我姓", "本人姓", "姓"];
const TITLES: &[&str] =
    &["先生", "女士", "小姐", "太太", "经理", "老师", "医生", "大夫", "师傅", "主任", "阿姨"];

/// Proposes what may be a name in Mandarin.
pub(super) fn mandarin(text: &Chars) -> Vec<Candidate> {
    let mut found = Vec::new();
    for at in 0..text.chars.len() {
        let reading = titled(text, at)
            .or_else(|| introduced(text, at, ASKED, 0.95))
            .or_else(|| surname_only(text, at))
            .or_else(|| introduced(text, at, SAID, 0.8));
        if let Some((from, to, confidence)) = reading {
            let name: String = text.chars[from..to].iter().collect();
            let value = EntityValue::Person(name);
            found.push(Candidate { value, span: text.span(from, to), confidence });
        }
    }
    found
}

/// Where a name begins and ends, and how sure that is.
type Place = (usize, usize, f32);

fn surname(text: &Chars, at: usize) -> Option<usize> {
    let single = || text.get(at).filter(|c| SURNAMES.contains(*c)).map(|_| 1);
    text.word(at, COMPOUND).or_else(single)
}

fn titled(text: &Chars, at: usize) -> Option<Place> {
    let end = at + surname(text, at)?;
    let end = end + text.word(end, TITLES)?;
    // `老王先生` and `小李经理` begin before.
    Some((at, end, 0.9))
}

fn introduced(text: &Chars, at: usize, words: &[&str], confidence: f32) -> Option<Place> {
    let from = at + text.word(at, words)?;
    let given = from + surname(text, from)?;
    if text.word(from, WORDS).is_some() || text.word(given, TITLES).is_some() {
        return None;
    }
    let is_given = |at: usize| {
        text.get(at).is_some_and(|c| ('\u{4e00}'..='\u{9fff}').contains(&c) && !NOT_GIVEN.contains(c))
    };
    let ends = |at: usize| text.get(at).is_none_or(|c| AFTER.contains(c));
    let end = [2, 1].into_iter().map(|n| given + n).find(|end| (given..*end).all(is_given) && ends(*end))?;
    Some((from, end, confidence))
}

fn surname_only(text: &Chars, at: usize) -> Option<Place> {
    let from = at + text.word(at, SURNAME_ONLY)?;
    let end = from + surname(text, from)?;
    text.get(end).is_none_or(|c| AFTER.contains(c)).then_some((from, end, 0.9))
}

const MY_NAME: &[&str] =
    &["my name is", "my name's", "the name is", "name is", "name's", "call me", "i'm called"];
const I_AM: &[&str] = &["this is", "i'm", "i am", "it's", "it is", "speaking to", "speaking with"];
const MISTER: &[&str] = &["mr", "mrs", "ms", "miss", "dr", "doctor", "professor"];
/// Written with a capital, or said after "my name is", and no name.
const NO_NAME: &[&str] = &[
    "i",
    "i'm",
    "i'll",
    "i've",
    "ok",
    "okay",
    "yes",
    "no",
    "not",
    "sorry",
    "busy",
    "good",
    "fine",
    "the",
    "a",
    "an",
    "and",
    "but",
    "so",
    "well",
    "here",
    "just",
    "very",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "mr",
    "mrs",
    "ms",
    "miss",
    "dr",
    "doctor",
    "speaking",
    "english",
    "chinese",
    "american",
    "calling",
    "please",
    "thanks",
    "thank",
    "what",
    "that",
    "my",
    "his",
    "her",
    "your",
    "on",
    "in",
    "at",
    "it",
    "is",
    "was",
    "too",
    "really",
    "still",
    "already",
    "going",
    "driving",
    "working",
    "late",
    "interested",
    "happy",
    "wrong",
    "right",
    "sure",
    "afraid",
    "about",
    "for",
    "from",
    "with",
    "hello",
    "hi",
];

/// Proposes what may be a name in English.
pub(super) fn english(text: &str, tokens: &[Token]) -> Vec<Candidate> {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let after = |at: usize, phrases: &[&str]| {
        phrases.iter().find_map(|phrase| {
            let words: Vec<&str> = phrase.split(' ').collect();
            words.iter().enumerate().all(|(n, wanted)| word(at + n) == *wanted).then_some(at + words.len())
        })
    };
    let is_word =
        |at: usize| word(at).chars().next().is_some_and(char::is_alphabetic) && !NO_NAME.contains(&word(at));
    let capital = |at: usize| {
        let written = tokens.get(at).and_then(|token| text.get(token.span.clone()));
        is_word(at) && written.and_then(|written| written.chars().next()).is_some_and(char::is_uppercase)
    };
    // Commas and full stops end a name.
    let joined = |at: usize| {
        let gap = tokens.get(at.wrapping_sub(1)).zip(tokens.get(at));
        let gap = gap.and_then(|(before, this)| text.get(before.span.end..this.span.start));
        gap.is_some_and(|gap| gap == " " || gap == "-")
    };
    let row = |from: usize, fits: &dyn Fn(usize) -> bool, most: usize| {
        let mut end = from;
        while end < from + most && fits(end) && (end == from || joined(end)) {
            end += 1;
        }
        (end > from).then_some(end)
    };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let reading = after(at, MISTER)
            .and_then(|from| Some((at, row(from, &capital, 2)?, 0.9)))
            .or_else(|| {
                let from = after(at, MY_NAME)?;
                let end = row(from, &capital, 3).or_else(|| row(from, &is_word, 2))?;
                Some((from, end, 0.95))
            })
            .or_else(|| {
                let from = after(at, I_AM)?;
                Some((from, row(from, &capital, 3)?, 0.8))
            })
            .or_else(|| {
                // "Alex Morgan speaking."
                let end = row(at, &capital, 3).filter(|_| at == 0)?;
                (word(end) == "speaking").then_some((at, end, 0.85))
            });
        if let Some((from, end, confidence)) = reading
            && let (Some(first), Some(last)) = (tokens.get(from), tokens.get(end - 1))
        {
            let span = first.span.start..last.span.end;
            let name = text.get(span.clone()).unwrap_or_default().to_owned();
            found.push(Candidate { value: EntityValue::Person(name), span, confidence });
        }
    }
    found
}
