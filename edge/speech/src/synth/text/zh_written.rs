//! Written Mandarin to what is said: digits, signs and units become words.
//!
//! One pass from left to right; at each place the first pattern that fits wins, longer and stricter
//! ones first. Latin words stay as they are, for the English reader.

use super::is_han;
use super::zh_numbers::{cardinal, count, decimal, each_digit, yuan};

/// Words after which digits are a name and not a quantity, so they are said one by one.
const NAMES_A_NUMBER: [&str; 32] = [
    "尾号",
    "卡号",
    "账号",
    "帐号",
    "编号",
    "单号",
    "工号",
    "号码",
    "验证码",
    "电话",
    "手机",
    "拨打",
    "致电",
    "热线",
    "密码",
    "邮编",
    "分机",
    "房号",
    "房间",
    "座机",
    "身份证",
    "学号",
    "型号",
    "代码",
    "序列号",
    "车牌",
    "航班",
    "车次",
    "尾数",
    "后四位",
    "客服",
    "短信至",
];

/// What is counted, so that a bare 2 before it is 两.
const COUNTED: [&str; 57] = [
    "个", "位", "次", "天", "件", "张", "条", "家", "种", "年", "小时", "分钟", "周", "万", "千", "亿", "元",
    "块", "份", "笔", "台", "套", "部", "辆", "本", "页", "遍", "项", "步", "句", "点", "晚", "名", "人",
    "盒", "箱", "包", "瓶", "杯", "斤", "公斤", "公里", "米", "倍", "层", "间", "期", "只", "双", "对", "成",
    "颗", "厘米", "毫米", "秒", "升", "克",
];

/// Where 2 stays 二 although the next word begins like something counted.
const NOT_COUNTED: [&str; 9] = ["月", "号", "日", "楼", "年级", "分之", "期间", "点钟方向", "本书号"];

const UNITS: [(&str, &str); 34] = [
    ("km/h", "公里每小时"),
    ("kWh", "千瓦时"),
    ("km", "公里"),
    ("cm", "厘米"),
    ("mm", "毫米"),
    ("kg", "公斤"),
    ("mg", "毫克"),
    ("ml", "毫升"),
    ("mL", "毫升"),
    ("min", "分钟"),
    ("㎡", "平方米"),
    ("m²", "平方米"),
    ("m³", "立方米"),
    ("m2", "平方米"),
    ("℃", "摄氏度"),
    ("°C", "摄氏度"),
    ("°", "度"),
    ("㎏", "公斤"),
    ("㎞", "公里"),
    ("Mbps", "兆"),
    ("MB", "兆"),
    ("GB", "G"),
    ("TB", "T"),
    ("kW", "千瓦"),
    ("Hz", "赫兹"),
    ("ms", "毫秒"),
    ("h", "小时"),
    ("s", "秒"),
    ("m", "米"),
    ("g", "克"),
    ("L", "升"),
    ("W", "瓦"),
    ("V", "伏"),
    ("w", "万"),
];

const CURRENCIES: [(&str, &str); 12] = [
    ("人民币", "元"),
    ("RMB", "元"),
    ("CNY", "元"),
    ("¥", "元"),
    ("￥", "元"),
    ("USD", "美元"),
    ("US$", "美元"),
    ("HK$", "港元"),
    ("$", "美元"),
    ("EUR", "欧元"),
    ("€", "欧元"),
    ("£", "英镑"),
];

/// Writes out everything in `text` that is not a word.
pub(super) fn spoken(text: &str) -> String {
    let chars: Vec<char> = text.chars().map(half_width).collect();
    let mut reader = Reader { chars: &chars, at: 0, out: String::new() };
    while reader.at < chars.len() {
        reader.step();
    }
    reader.out
}

/// Digits and letters of double width become plain ones; the number separator goes.
fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}'
            if c.is_alphanumeric()
                || matches!(
                    c,
                    '％' | '＋' | '－' | '／' | '：' | '．' | '＠' | '＃' | '＊' | '～' | '＄'
                ) =>
        {
            char::from_u32(c as u32 - 0xFEE0).unwrap_or(c)
        }
        '\u{3000}' => ' ',
        '–' | '−' | '‑' => '-',
        '〜' => '~',
        _ => c,
    }
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    out: String,
}

/// A number as it stands in the text.
struct Number {
    /// Digits with at most one point, without separators.
    text: String,
    /// The first character after it.
    end: usize,
}

impl Number {
    fn is_whole(&self) -> bool {
        !self.text.contains('.')
    }
}

impl Reader<'_> {
    fn step(&mut self) {
        let c = self.chars[self.at];
        if self.currency() || self.signed() {
            return;
        }
        if c.is_ascii_digit() {
            self.number_at();
            return;
        }
        if c.is_ascii_alphabetic() {
            self.latin();
            return;
        }
        let before_digit = self.out.chars().last();
        match c {
            '%' => self.out.push_str("百分号"),
            '#' => self.out.push_str("井号"),
            '*' => self.out.push_str("星号"),
            '@' => self.out.push_str("艾特"),
            '&' => self.out.push('和'),
            '+' => self.out.push('加'),
            '=' => self.out.push_str("等于"),
            '℃' => self.out.push_str("摄氏度"),
            '〇' => self.out.push('零'),
            '~' if before_digit.is_some_and(is_han) => self.out.push('到'),
            '/' => self.out.push('或'),
            _ => self.out.push(c),
        }
        self.at += 1;
    }

    fn starts(&self, at: usize, word: &str) -> bool {
        (at..).zip(word.chars()).all(|(i, w)| self.is(i, w))
    }

    fn digits(&self, at: usize) -> usize {
        self.chars[at.min(self.chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count()
    }

    fn text(&self, from: usize, to: usize) -> String {
        self.chars[from..to].iter().collect()
    }

    fn is(&self, at: usize, c: char) -> bool {
        self.chars.get(at) == Some(&c)
    }

    fn skip_spaces(&self, mut at: usize) -> usize {
        while self.is(at, ' ') {
            at += 1;
        }
        at
    }

    /// Reads a number with thousands separators and a decimal part.
    fn number(&self, at: usize) -> Option<Number> {
        let mut end = at + self.digits(at);
        if end == at {
            return None;
        }
        if end - at <= 3 {
            while self.is(end, ',') && self.digits(end + 1) == 3 {
                end += 4;
            }
        }
        if self.is(end, '.') {
            let part = self.digits(end + 1);
            if part > 0 && !(self.is(end + 1 + part, '.') && self.digits(end + 2 + part) > 0) {
                end += 1 + part;
            }
        }
        let text: String = self.chars[at..end].iter().filter(|c| **c != ',').collect();
        Some(Number { text, end })
    }

    /// `¥1,234.50`, `USD 20`.
    fn currency(&mut self) -> bool {
        for (sign, unit) in CURRENCIES {
            if !self.starts(self.at, sign) {
                continue;
            }
            let digits_at = self.skip_spaces(self.at + sign.chars().count());
            let Some(number) = self.number(digits_at) else { continue };
            let mut end = number.end;
            let scale = ["万", "亿", "千"].into_iter().find(|s| self.starts(end, s));
            end += scale.map_or(0, |s| s.chars().count());
            // 人民币100元 says its unit itself.
            if self.is(end, '元') || self.is(end, '块') {
                if sign == "人民币" {
                    self.out.push_str(sign);
                    self.at = digits_at;
                    return true;
                }
                end += 1;
            }
            let spoken = match scale {
                Some(scale) => format!("{}{scale}{unit}", count(&number.text)),
                None if unit == "元" => yuan(&number.text, unit),
                None => format!("{}{unit}", count(&number.text)),
            };
            if sign == "人民币" {
                self.out.push_str(sign);
            }
            self.out.push_str(&spoken);
            self.at = end;
            return true;
        }
        false
    }

    /// `-5`, `+86 138…`, `±3`.
    fn signed(&mut self) -> bool {
        let c = self.chars[self.at];
        let after_word =
            self.at > 0 && (self.chars[self.at - 1].is_ascii_alphanumeric() || self.is(self.at - 1, ')'));
        if after_word || self.digits(self.at + 1) == 0 {
            return false;
        }
        match c {
            '-' => {
                let cold = self
                    .number(self.at + 1)
                    .is_some_and(|n| ["℃", "°C", "度"].iter().any(|u| self.starts(n.end, u)));
                self.out.push_str(if cold { "零下" } else { "负" });
            }
            '±' => self.out.push_str("正负"),
            '+' if self.starts(self.at + 1, "86") && self.digits(self.at + 1) >= 2 => {
                self.at += 3;
                while self.is(self.at, ' ') || self.is(self.at, '-') {
                    self.at += 1;
                }
                self.out.push_str("加八六，");
                return true;
            }
            '+' => self.out.push('正'),
            _ => return false,
        }
        self.at += 1;
        true
    }

    /// Latin letters: left for the English reader. Digits right after letters are part of a name.
    fn latin(&mut self) {
        let from = self.at;
        let word = |c: &char| c.is_ascii_alphabetic() || matches!(c, '\'' | '.' | '-' | '&' | '@');
        let mut end = from + self.chars[from..].iter().take_while(|c| word(c)).count();
        while end > from && !self.chars[end - 1].is_ascii_alphabetic() {
            end -= 1;
        }
        self.space();
        let letters = self.text(from, end);
        self.out.push_str(&letters);
        self.at = end;
        let tail = if self.is(end, '-') && self.digits(end + 1) > 0 { end + 1 } else { end };
        let digits = self.digits(tail);
        if digits > 0 {
            let digits_text = self.text(tail, tail + digits);
            self.space();
            self.out.push_str(&each_digit(&digits_text, digits > 1));
            self.at = tail + digits;
        }
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }

    fn number_at(&mut self) {
        let done = self.date() || self.clock() || self.telephone() || self.fraction();
        if done {
            return;
        }
        let Some(number) = self.number(self.at) else {
            self.at += 1;
            return;
        };
        // 1.2.3: a version, point by point.
        if self.is(number.end, '.') && self.digits(number.end + 1) > 0 && number.is_whole() {
            self.dotted();
            return;
        }
        if self.year(&number) || self.name(&number) {
            return;
        }
        self.quantity(&number);
    }

    fn dotted(&mut self) {
        loop {
            let digits = self.digits(self.at);
            let text = self.text(self.at, self.at + digits);
            self.out.push_str(&cardinal(&text));
            self.at += digits;
            if self.is(self.at, '.') && self.digits(self.at + 1) > 0 {
                self.out.push('点');
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// `2026-11-22`, `2026/11/22`, `2026.11.22`.
    fn date(&mut self) -> bool {
        let at = self.at;
        if self.digits(at) != 4 {
            return false;
        }
        let Some(&mark) = self.chars.get(at + 4) else { return false };
        if !matches!(mark, '-' | '/' | '.') {
            return false;
        }
        let month = self.digits(at + 5);
        let month_text = self.text(at + 5, at + 5 + month);
        let day_at = at + 5 + month + 1;
        if !in_range(&month_text, 1, 12) || !self.is(day_at - 1, mark) {
            return false;
        }
        let day = self.digits(day_at);
        let day_text = self.text(day_at.min(self.chars.len()), (day_at + day).min(self.chars.len()));
        if !in_range(&day_text, 1, 31) {
            return false;
        }
        let year = self.text(at, at + 4);
        let spoken =
            format!("{}年{}月{}日", each_digit(&year, false), cardinal(&month_text), cardinal(&day_text));
        self.out.push_str(&spoken);
        self.at = day_at + day;
        true
    }

    /// `8:05`, `14:30:20`, `9:00-18:00`.
    fn clock(&mut self) -> bool {
        let at = self.at;
        let hour = self.digits(at);
        let minute_at = at + hour + 1;
        let hour_text = self.text(at, at + hour);
        if hour > 2 || !self.is(minute_at - 1, ':') || self.digits(minute_at) != 2 {
            return false;
        }
        let minute_text = self.text(minute_at, minute_at + 2);
        if !in_range(&hour_text, 0, 24) || !in_range(&minute_text, 0, 59) {
            return false;
        }
        let mut end = minute_at + 2;
        let hour_value = hour_text.trim_start_matches('0');
        let mut spoken =
            if hour_value == "2" { "两点".to_owned() } else { format!("{}点", cardinal(hour_value)) };
        let mut second = None;
        if self.is(end, ':') && self.digits(end + 1) == 2 {
            second = Some(self.text(end + 1, end + 3));
            end += 3;
        }
        match (minute_text.as_str(), second) {
            ("00", None) => {}
            (minute, second) => {
                if minute.starts_with('0') {
                    spoken.push('零');
                }
                if minute != "00" {
                    spoken.push_str(&cardinal(minute));
                }
                spoken.push('分');
                if let Some(second) = second {
                    spoken.push_str(&cardinal(&second));
                    spoken.push('秒');
                }
            }
        }
        self.out.push_str(&spoken);
        self.at = end;
        self.range_mark();
        true
    }

    /// Reads `-` or `~` between two numbers as "to".
    fn range_mark(&mut self) {
        let at = self.skip_spaces(self.at);
        let marks = self.chars[at.min(self.chars.len())..]
            .iter()
            .take_while(|c| matches!(c, '-' | '~' | '—'))
            .count();
        let next = self.skip_spaces(at + marks);
        if marks > 0 && self.digits(next) > 0 {
            self.out.push('到');
            self.at = next;
        }
    }

    /// Mobile, 400, landline and service numbers.
    fn telephone(&mut self) -> bool {
        let at = self.at;
        let mut end = at;
        let mut groups: Vec<String> = Vec::new();
        loop {
            let digits = self.digits(end);
            if digits == 0 {
                break;
            }
            groups.push(self.text(end, end + digits));
            end += digits;
            let mark = self.is(end, '-') || self.is(end, ' ');
            if mark && self.digits(end + 1) >= 3 {
                end += 1;
            } else {
                break;
            }
        }
        let all: String = groups.concat();
        if self.is(end, '.') && self.digits(end + 1) > 0 {
            return false;
        }
        let mobile = all.len() == 11 && all.starts_with('1') && matches!(all.as_bytes()[1], b'3'..=b'9');
        let toll_free = all.len() == 10 && (all.starts_with("400") || all.starts_with("800"));
        let landline = groups.len() >= 2
            && all.starts_with('0')
            && (10..=12).contains(&all.len())
            && groups[0].len() <= 4;
        let service = groups.len() == 1
            && (all.len() == 5
                && ["955", "953", "100", "101", "123"].iter().any(|p| all.starts_with(p))
                && (all != "10000" && all != "12300" && all != "10100")
                || all.len() == 3
                    && matches!(all.as_str(), "110" | "119" | "120" | "122")
                    && self.after_call_word());
        let unit = self
            .chars
            .get(end)
            .is_some_and(|c| matches!(c, '元' | '块' | '万' | '个' | '人' | '%' | '次' | '年'));
        if !(mobile || toll_free || landline || service) || (unit && groups.len() == 1) {
            return false;
        }
        let groups: Vec<String> = if groups.len() > 1 {
            groups
        } else if mobile {
            vec![all[..3].to_owned(), all[3..7].to_owned(), all[7..].to_owned()]
        } else if toll_free {
            vec![all[..3].to_owned(), all[3..6].to_owned(), all[6..].to_owned()]
        } else {
            groups
        };
        let spoken: Vec<String> = groups.iter().map(|g| each_digit(g, true)).collect();
        self.out.push_str(&spoken.join("，"));
        self.at = end;
        true
    }

    fn after_call_word(&self) -> bool {
        ["拨打", "拨", "打", "致电", "呼叫", "电话"].iter().any(|w| self.out.ends_with(w))
    }

    /// `1/3` is 三分之一, `50%`, `10%-20%`.
    fn fraction(&mut self) -> bool {
        let at = self.at;
        if let Some(number) = self.number(at) {
            let sign = self.skip_spaces(number.end);
            let name = if self.is(sign, '%') {
                Some("百分之")
            } else if self.is(sign, '‰') {
                Some("千分之")
            } else {
                None
            };
            if let Some(name) = name {
                self.out.push_str(name);
                self.out.push_str(&decimal(&number.text));
                self.at = sign + 1;
                self.range_mark();
                return true;
            }
        }
        let top = self.digits(at);
        if top == 0 || top > 2 || !self.is(at + top, '/') {
            return false;
        }
        let bottom = self.digits(at + top + 1);
        if bottom == 0 || bottom > 2 || self.is(at + top + 1 + bottom, '/') {
            return false;
        }
        let below = self.text(at + top + 1, at + top + 1 + bottom);
        let above = self.text(at, at + top);
        if below == "24" && above == "7" {
            return false;
        }
        self.out.push_str(&format!("{}分之{}", cardinal(&below), cardinal(&above)));
        self.at = at + top + 1 + bottom;
        true
    }

    /// `2026年`, `98年`.
    fn year(&mut self, number: &Number) -> bool {
        if !number.is_whole() || !self.is(number.end, '年') {
            return false;
        }
        let plain = number.end - self.at == number.text.len();
        let calendar = match number.text.len() {
            4 => number.text.starts_with(['1', '2']),
            2 => number.text.starts_with(['8', '9', '0']),
            _ => false,
        };
        if !plain || !calendar {
            return false;
        }
        self.out.push_str(&each_digit(&number.text, false));
        self.at = number.end;
        true
    }

    /// Digits that name something: after 尾号 and the like, with a leading zero, or very long.
    fn name(&mut self, number: &Number) -> bool {
        if !number.is_whole() || number.end - self.at != number.text.len() {
            return false;
        }
        let tail: String = {
            let mut t: Vec<char> = self.out.chars().rev().take(8).collect();
            t.reverse();
            t.into_iter().filter(|c| !matches!(c, ' ' | '：' | ':' | '是' | '为' | '"' | '“')).collect()
        };
        let named = NAMES_A_NUMBER.iter().any(|w| tail.ends_with(w));
        let long = number.text.len() > 8;
        let zero = number.text.len() > 1 && number.text.starts_with('0');
        let room = matches!(self.chars.get(number.end), Some('室')) && number.text.len() >= 3;
        if !(named || long || zero || room) {
            return false;
        }
        // In fours, so that it can be written down.
        let step = if number.text.len() > 6 { 4 } else { 8 };
        let chars: Vec<char> = number.text.chars().collect();
        let groups: Vec<String> =
            chars.chunks(step).map(|g| each_digit(&g.iter().collect::<String>(), true)).collect();
        self.out.push_str(&groups.join("，"));
        self.at = number.end;
        true
    }

    fn quantity(&mut self, number: &Number) {
        let end = number.end;
        for unit in ["元", "块钱", "块"] {
            if self.starts(end, unit) && number.text.contains('.') {
                self.out.push_str(&yuan(&number.text, if unit == "块钱" { "块" } else { unit }));
                self.at = end + unit.chars().count();
                return;
            }
        }
        let unit_at = self.skip_spaces(end);
        for (unit, name) in UNITS {
            let after = unit_at + unit.chars().count();
            let whole_word = self.chars.get(after).is_none_or(|c| !c.is_ascii_alphanumeric());
            if self.starts(unit_at, unit) && whole_word {
                self.out.push_str(&count(&number.text));
                self.out.push_str(name);
                self.at = after;
                self.range_mark();
                return;
            }
        }
        let counted = COUNTED.iter().any(|w| self.starts(unit_at, w))
            && !NOT_COUNTED.iter().any(|w| self.starts(unit_at, w));
        let months = self.starts(unit_at, "个");
        let ordinal = self.out.ends_with('第');
        let spoken =
            if (counted || months) && !ordinal { count(&number.text) } else { decimal(&number.text) };
        self.out.push_str(&spoken);
        self.at = end;
        self.range_mark();
    }
}

fn in_range(text: &str, low: u32, high: u32) -> bool {
    text.len() <= 2 && text.parse::<u32>().is_ok_and(|v| (low..=high).contains(&v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_mandarin_is_written_out_as_it_is_said() {
        let cases = [
            ("您的余额是1,234.56元", "您的余额是一千二百三十四元五角六分"),
            ("欠款￥3500", "欠款三千五百元"),
            ("人民币5000元", "人民币五千元"),
            ("贷款3.5万元", "贷款三点五万元"),
            ("$20", "二十美元"),
            ("2026年11月22日", "二零二六年十一月二十二日"),
            ("2026-11-22", "二零二六年十一月二十二日"),
            ("2026/3/8", "二零二六年三月八日"),
            ("1月2号", "一月二号"),
            ("2个月", "两个月"),
            ("2天内", "两天内"),
            ("2楼", "二楼"),
            ("第2次", "第二次"),
            ("12个工作日", "十二个工作日"),
            ("下午2:30", "下午两点三十分"),
            ("8:05", "八点零五分"),
            ("9:00-18:00", "九点到十八点"),
            ("13812345678", "幺三八，幺二三四，五六七八"),
            ("+86 13812345678", "加八六，幺三八，幺二三四，五六七八"),
            ("400-820-1234", "四零零，八二零，幺二三四"),
            ("010-62751234", "零幺零，六二七五幺二三四"),
            ("请拨打95588", "请拨打九五五八八"),
            ("10086", "幺零零八六"),
            ("拨打110", "拨打幺幺零"),
            ("共110元", "共一百一十元"),
            ("尾号1234", "尾号幺二三四"),
            ("验证码是582013", "验证码是五八二零幺三"),
            ("利率3.85%", "利率百分之三点八五"),
            ("10%-20%", "百分之十到百分之二十"),
            ("3-5天", "三到五天"),
            ("1/3", "三分之一"),
            ("-5℃", "零下五摄氏度"),
            ("100kg", "一百公斤"),
            ("2km", "两公里"),
            ("5G套餐", "五 G套餐"),
            ("A座1203室", "A座幺二零三室"),
            ("G1234次", "G 幺二三四次"),
            ("订单20261122001", "订单二零二六，幺幺二二，零零幺"),
            ("按#键", "按井号键"),
            ("１００元", "一百元"),
            ("版本1.2.3", "版本一点二点三"),
            ("0.5小时", "零点五小时"),
            ("007", "零零七"),
            ("请按1", "请按一"),
            ("98年", "九八年"),
            ("3年", "三年"),
        ];
        for (text, expected) in cases {
            assert_eq!(spoken(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_no_digit_survives(text in "[0-9.,:/%元年月个 a￥$+~-]{0,24}") {
            let said = spoken(&text);
            proptest::prop_assert!(!said.chars().any(|c| c.is_ascii_digit()), "{text} -> {said}");
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            let _ = spoken(&text);
        }
    }
}
