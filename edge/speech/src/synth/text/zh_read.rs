//! Mandarin words to symbols: which reading a character has, and what its neighbours do to its tone.

use std::collections::HashMap;

use jieba_rs::Jieba;
use pinyin::{ToPinyin, ToPinyinMulti};

use super::en_read::EnglishReader;
use super::is_han;
use super::zh_ipa::syllable_to_ipa;
use super::zh_written::spoken;

/// Surnames that read otherwise than the word, used before a title.
const SURNAMES: [(char, &str); 17] = [
    ('曾', "zeng1"),
    ('单', "shan4"),
    ('任', "ren2"),
    ('解', "xie4"),
    ('仇', "qiu2"),
    ('华', "hua4"),
    ('查', "zha1"),
    ('区', "ou1"),
    ('盖', "ge3"),
    ('朴', "piao2"),
    ('翟', "zhai2"),
    ('尹', "yin3"),
    ('宁', "ning4"),
    ('纪', "ji3"),
    ('乐', "yue4"),
    ('长', "zhang3"),
    ('尉', "wei4"),
];

const TITLES: [&str; 14] = [
    "先生", "女士", "小姐", "经理", "老师", "主任", "总", "师傅", "医生", "律师", "同学", "阿姨", "大哥",
    "大姐",
];

/// Reads Mandarin. Holds the word list (some 20 MB) and the phrase table.
pub struct MandarinReader {
    words: Jieba,
    phrases: HashMap<&'static str, Vec<&'static str>>,
    longest: usize,
}

/// One character of a word with its reading.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Syllable {
    han: char,
    /// Pinyin without the tone.
    body: String,
    tone: u8,
    /// The tone is as it must be and takes no part in sandhi of 一 and 不.
    fixed: bool,
}

impl MandarinReader {
    /// Builds the tables.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut phrases = HashMap::new();
        let mut longest = 1;
        for line in include_str!("zh_phrases.txt").lines() {
            let Some((phrase, readings)) = line.split_once(' ') else { continue };
            if phrase == "#" {
                continue;
            }
            longest = longest.max(phrase.chars().count());
            phrases.insert(phrase, readings.split(' ').collect());
        }
        let mut words = Jieba::new();
        // Words of our trade that the list splits.
        for word in ["还款", "尾号", "转人工", "验证码", "开户行", "免打扰", "回访", "工单", "分期"]
        {
            words.add_word(word, None, None);
        }
        Self { words, phrases, longest }
    }

    /// Reads one clause; stretches of Latin letters go to the English reader.
    pub(super) fn read(&self, clause: &str, english: &EnglishReader) -> String {
        let mut out = String::new();
        let written = spoken(clause);
        for part in parts(&written) {
            let said = match part {
                Part::Han(text) => self.symbols(text),
                Part::Latin(text) => english.read(text, false),
                Part::Break => {
                    if out.ends_with(|c: char| c.is_alphabetic() || "→↗↓↘".contains(c)) {
                        out.push(',');
                    }
                    continue;
                }
            };
            if said.is_empty() {
                continue;
            }
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&said);
        }
        out
    }

    /// The pinyin of a stretch of Han characters after sandhi, words apart: `ni2 hao3`.
    pub fn pinyin(&self, text: &str) -> String {
        let words = self.syllables(text);
        let spelled = |w: &Vec<Syllable>| {
            w.iter().map(|s| format!("{}{}", s.body, s.tone)).collect::<Vec<_>>().join(" ")
        };
        words.iter().map(spelled).collect::<Vec<_>>().join(" ")
    }

    fn symbols(&self, text: &str) -> String {
        let word = |syllables: &Vec<Syllable>| {
            syllables
                .iter()
                .filter_map(|s| syllable_to_ipa(&format!("{}{}", s.body, s.tone)))
                .collect::<String>()
        };
        let words: Vec<String> = self.syllables(text).iter().map(word).filter(|w| !w.is_empty()).collect();
        words.join(" ")
    }

    /// Words, each with its syllables after sandhi.
    fn syllables(&self, text: &str) -> Vec<Vec<Syllable>> {
        let chars: Vec<char> = text.chars().collect();
        let lengths: Vec<usize> = self.words.cut(text, true).iter().map(|t| t.word.chars().count()).collect();
        let readings = self.readings(&chars, &lengths);
        let mut words: Vec<Vec<Syllable>> = Vec::new();
        let mut at = 0;
        for length in lengths {
            let word: Vec<Syllable> = readings[at..at + length].iter().flatten().cloned().collect();
            at += length;
            if !word.is_empty() {
                words.push(word);
            }
        }
        one_and_not(&mut words);
        third_tones(&mut words);
        words
    }

    /// A reading per character: by the longest phrase that begins there, by surname and title, or
    /// the character's usual one.
    fn readings(&self, chars: &[char], word_lengths: &[usize]) -> Vec<Option<Syllable>> {
        // The word that each character belongs to. A phrase lies in one word or covers whole ones:
        // 应还 is no phrase in 应|还款.
        let word_of: Vec<usize> = word_lengths
            .iter()
            .enumerate()
            .flat_map(|(word, length)| std::iter::repeat_n(word, *length))
            .collect();
        let boundary = |i: usize| i == 0 || i >= word_of.len() || word_of[i] != word_of[i - 1];
        let fits = |from: usize, to: usize| {
            word_of.get(from) == word_of.get(to - 1) || boundary(from) && boundary(to)
        };
        let mut readings: Vec<Option<Syllable>> = Vec::with_capacity(chars.len());
        let mut at = 0;
        'next: while at < chars.len() {
            let rest = &chars[at..];
            if let Some((_, reading)) = SURNAMES.iter().find(|(c, _)| *c == rest[0]) {
                let title: String = rest[1..].iter().take(2).collect();
                let named = at > 0 && matches!(chars[at - 1], '姓' | '小' | '老');
                let begins = TITLES.iter().any(|t| title.starts_with(t));
                let word = at > 0
                    && is_han(chars[at - 1])
                    && self.words.has_word(&format!("{}{}", chars[at - 1], rest[0]));
                if (begins && !word) || (named && chars[at - 1] == '姓') {
                    readings.push(syllable(rest[0], reading, true));
                    at += 1;
                    continue;
                }
            }
            for length in (2..=self.longest.min(rest.len())).rev() {
                let phrase: String = rest[..length].iter().collect();
                if let Some(found) = self.phrases.get(phrase.as_str())
                    && fits(at, at + length)
                {
                    for (c, reading) in rest.iter().zip(found) {
                        readings.push(syllable(*c, reading, true));
                    }
                    at += length;
                    continue 'next;
                }
            }
            readings.push(self.usual(rest[0]));
            at += 1;
        }
        readings
    }

    fn usual(&self, c: char) -> Option<Syllable> {
        let mut buffer = [0; 4];
        let one: &str = c.encode_utf8(&mut buffer);
        if let Some(found) = self.phrases.get(one) {
            return syllable(c, found.first()?, false);
        }
        if let Some(reading) = c.to_pinyin() {
            return syllable(c, reading.with_tone_num_end(), false);
        }
        let multi = c.to_pinyin_multi()?;
        syllable(c, multi.into_iter().next()?.with_tone_num_end(), false)
    }
}

fn syllable(han: char, reading: &str, fixed: bool) -> Option<Syllable> {
    let last = reading.chars().last()?;
    let (body, tone) = match last.to_digit(10) {
        Some(tone) => (&reading[..reading.len() - 1], if tone == 0 { 5 } else { tone as u8 }),
        None => (reading, 5),
    };
    let fixed = fixed && matches!(han, '一' | '不');
    Some(Syllable { han, body: body.replace('ü', "v"), tone, fixed })
}

enum Part<'a> {
    Han(&'a str),
    Latin(&'a str),
    Break,
}

/// Cuts written-out text into stretches of Han, stretches of Latin, and breaks at commas.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let kind = |c: char| {
        if is_han(c) {
            1
        } else if c.is_ascii_alphabetic() || matches!(c, '\'' | '&') {
            2
        } else if matches!(c, ' ' | '.' | '-' | '@') {
            3
        } else {
            0
        }
    };
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let this = kind(c);
        let mut end = start + c.len_utf8();
        while let Some(&(i, next)) = chars.peek() {
            let k = kind(next);
            if k == this || this == 2 && k == 3 {
                end = i + next.len_utf8();
                chars.next();
            } else {
                break;
            }
        }
        match this {
            1 => parts.push(Part::Han(&text[start..end])),
            2 => parts.push(Part::Latin(&text[start..end])),
            3 => {}
            _ if c == '，' || c == ',' || c == '、' || c == '：' => parts.push(Part::Break),
            _ => {}
        }
    }
    parts
}

/// 不 before a fourth tone is bu2; 一 is yi2 before a fourth tone, yi4 before the others, and keeps
/// its own in numbers, ordinals and at the end.
fn one_and_not(words: &mut [Vec<Syllable>]) {
    let flat: Vec<(char, u8)> = words.iter().flatten().map(|s| (s.han, s.tone)).collect();
    let digit = |c: Option<&(char, u8)>| c.is_some_and(|(c, _)| "零一二三四五六七八九十幺点两".contains(*c));
    let scale = |c: Option<&(char, u8)>| c.is_some_and(|(c, _)| "百千万亿".contains(*c));
    for (i, s) in words.iter_mut().flatten().enumerate() {
        if s.fixed {
            continue;
        }
        let next = flat.get(i + 1);
        let before = i.checked_sub(1).and_then(|p| flat.get(p));
        let tone = next.map(|n| n.1);
        match s.han {
            '不' => {
                // 是不是, 好不好
                if before.is_some() && before.map(|b| b.0) == next.map(|n| n.0) {
                    s.tone = 5;
                } else if tone == Some(4) {
                    s.tone = 2;
                }
            }
            '一' => {
                let counted = digit(before) || scale(before) || before.is_some_and(|b| b.0 == '第');
                let in_digits = digit(next) && !next.is_some_and(|n| n.0 == '点' || n.0 == '十');
                let plain = counted || in_digits || tone.is_none();
                s.tone = match tone {
                    _ if plain => 1,
                    Some(4) => 2,
                    // A light 个 was a fourth tone.
                    Some(5) if next.is_some_and(|n| n.0 == '个') => 2,
                    Some(5) | None => 1,
                    Some(_) => 4,
                };
            }
            _ => {}
        }
    }
}

/// The first of two third tones rises: inside a word first, then where two words meet.
fn third_tones(words: &mut [Vec<Syllable>]) {
    for word in words.iter_mut() {
        let low: Vec<bool> = word.iter().map(|s| s.tone == 3).collect();
        // 展览馆 (2+1) rises twice; 小老虎 (1+2) keeps its first.
        if word.len() == 3 && low.iter().all(|l| *l) && matches!(word[0].han, '小' | '老' | '纸' | '好') {
            word[1].tone = 2;
            continue;
        }
        for i in 0..word.len().saturating_sub(1) {
            if low[i] && low[i + 1] {
                word[i].tone = 2;
            }
        }
    }
    for i in 0..words.len().saturating_sub(1) {
        let next = words[i + 1].first().map(|s| s.tone);
        let long = words[i].len() > 2;
        if let Some(last) = words[i].last_mut()
            && last.tone == 3
            && next == Some(3)
            && !long
        {
            last.tone = 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cases: &[(&str, &str)]) {
        let reader = MandarinReader::new();
        let mut wrong = Vec::new();
        for (text, expected) in cases {
            let got = reader.pinyin(text);
            if got != *expected {
                wrong.push(format!("{text}: {got}, expected {expected}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    #[test]
    fn characters_with_several_readings_follow_their_phrase() {
        read(&[
            ("您还款了吗", "nin2 huan2 kuan3 le5 ma5"),
            ("还是银行", "hai2 shi5 yin2 hang2"),
            ("请重新输入", "qing3 chong2 xin1 shu1 ru4"),
            ("这很重要", "zhe4 hen3 zhong4 yao4"),
            ("了解一下", "liao2 jie3 yi2 xia4"),
            ("行长在开会", "hang2 zhang3 zai4 kai1 hui4"),
            ("利率", "li4 lv4"),
            ("方便吗", "fang1 bian4 ma5"),
            ("便宜", "pian2 yi5"),
            ("为您服务", "wei4 nin2 fu2 wu4"),
            ("金额为", "jin1 e2 wei2"),
            ("调整额度", "tiao2 zheng3 e2 du4"),
            ("尽快处理", "jin3 kuai4 chu2 li3"),
            ("曾女士", "zeng1 nv3 shi4"),
            ("单先生", "shan4 xian1 sheng5"),
            ("会计", "kuai4 ji4"),
            ("您得去银行", "nin2 dei3 qu4 yin2 hang2"),
            ("更新", "geng1 xin1"),
            ("音乐", "yin1 yue4"),
        ]);
    }

    #[test]
    fn tones_change_with_their_neighbours() {
        read(&[
            ("你好", "ni2 hao3"),
            ("不是", "bu2 shi4"),
            ("不行", "bu4 xing2"),
            ("不客气", "bu2 ke4 qi5"),
            ("是不是", "shi4 bu5 shi4"),
            ("一个", "yi2 ge4"),
            ("一天", "yi4 tian1"),
            ("一年", "yi4 nian2"),
            ("一百一十", "yi4 bai3 yi1 shi2"),
            ("第一", "di4 yi1"),
            ("二零一一年", "er4 ling2 yi1 yi1 nian2"),
            ("十一月", "shi2 yi1 yue4"),
            ("请按一", "qing3 an4 yi1"),
            ("可以", "ke2 yi3"),
            ("我想请您", "wo2 xiang2 qing3 nin2"),
            ("展览馆", "zhan2 lan2 guan3"),
        ]);
    }

    #[test]
    fn every_common_character_has_a_reading_that_the_voice_can_say() {
        let reader = MandarinReader::new();
        let mut read = 0;
        let mut silent = Vec::new();
        // The level-one and level-two sets lie in this block, among 20,992.
        for c in '\u{4E00}'..='\u{9FA5}' {
            let Some(s) = reader.usual(c) else { continue };
            read += 1;
            if syllable_to_ipa(&format!("{}{}", s.body, s.tone)).is_none() {
                silent.push(format!("{c} {}{}", s.body, s.tone));
            }
        }
        assert!(read > 20_000, "{read}");
        assert!(silent.is_empty(), "{silent:?}");
    }

    #[test]
    fn every_line_of_the_phrase_table_has_a_syllable_per_character() {
        for line in include_str!("zh_phrases.txt").lines().filter(|l| !l.starts_with('#')) {
            let (phrase, readings) = line.split_once(' ').unwrap();
            assert_eq!(phrase.chars().count(), readings.split(' ').count(), "{line}");
            for reading in readings.split(' ') {
                assert!(syllable_to_ipa(reading).is_some(), "{line}");
            }
        }
    }
}
