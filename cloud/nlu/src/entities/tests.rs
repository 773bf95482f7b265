//! Tables of cases. Today is Wednesday, 18 November 2026, 10:30.

use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn now() -> DateTime {
    date(2026, 11, 18).at(10, 30, 0, 0)
}

/// All entities as `kind:value`, agreement aside.
fn found(text: &str, locale: Locale) -> Vec<String> {
    extract(text, locale, now())
        .into_iter()
        .filter(|entity| entity.kind != EntityKind::Agreement)
        .map(|entity| format!("{}:{}", entity.kind.as_str(), entity.value.normalised()))
        .collect()
}

fn check(locale: Locale, kind: EntityKind, table: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (text, value) in table {
        let wanted = format!("{}:{value}", kind.as_str());
        let found = found(text, locale);
        if !found.contains(&wanted) {
            wrong.push(format!("{text}: wanted {wanted}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_absent(locale: Locale, kind: EntityKind, texts: &[&str]) {
    for text in texts {
        let prefix = format!("{}:", kind.as_str());
        let found = found(text, locale);
        assert!(!found.iter().any(|entity| entity.starts_with(&prefix)), "{text}: {found:?}");
    }
}

#[test]
fn mandarin_dates() {
    check(
        Locale::Zh,
        EntityKind::Date,
        &[
            ("我明天还", "2026-11-19"),
            ("后天吧", "2026-11-20"),
            ("大后天可以", "2026-11-21"),
            ("今晚转过去", "2026-11-18"),
            ("昨天已经还了", "2026-11-17"),
            ("下周五之前", "2026-11-27"),
            ("这周五", "2026-11-20"),
            ("周五", "2026-11-20"),
            ("星期三", "2026-11-18"),
            ("下个礼拜天", "2026-11-29"),
            ("下下周一", "2026-11-30"),
            ("周末", "2026-11-21"),
            ("月底", "2026-11-30"),
            ("下个月底", "2026-12-31"),
            ("下月初", "2026-12-01"),
            ("十五号", "2026-12-15"),
            ("二十号", "2026-11-20"),
            ("20号发工资", "2026-11-20"),
            ("下个月五号", "2026-12-05"),
            ("下个月的十号", "2026-12-10"),
            ("三月五号", "2027-03-05"),
            ("12月25日", "2026-12-25"),
            ("二零二七年三月五号", "2027-03-05"),
            ("2026-12-01", "2026-12-01"),
            ("三天后", "2026-11-21"),
            ("过两周", "2026-12-02"),
            ("一个月以后", "2026-12-18"),
            ("年底", "2026-12-31"),
        ],
    );
    check_absent(Locale::Zh, EntityKind::Date, &["三号楼", "我要两个", "一共三千五", "两周一次", "你说什么"]);
}

#[test]
fn mandarin_times() {
    check(
        Locale::Zh,
        EntityKind::Time,
        &[
            ("下午三点", "15:00"),
            ("明天上午十点半", "10:30"),
            ("晚上八点一刻", "20:15"),
            ("早上九点二十分", "09:20"),
            ("15:30", "15:30"),
            ("十五点三十分", "15:30"),
            ("三点", "15:00"),
            ("八点整", "08:00"),
            ("差五分三点", "14:55"),
            ("差一刻八点", "07:45"),
            ("凌晨两点", "02:00"),
            ("中午十二点", "12:00"),
            ("中午一点", "13:00"),
            ("半小时后", "11:00"),
            ("下午三点十五", "15:15"),
            ("下午一点", "13:00"),
        ],
    );
    check_absent(Locale::Zh, EntityKind::Time, &["说慢一点", "便宜一点", "有一点贵", "三天", "早点打"]);
}

#[test]
fn mandarin_money() {
    check(
        Locale::Zh,
        EntityKind::Money,
        &[
            ("五百块", "500.00 CNY"),
            ("五百块钱", "500.00 CNY"),
            ("三千五", "3500.00"),
            ("1.2万", "12000.00"),
            ("一万二", "12000.00"),
            ("1.2万元", "12000.00 CNY"),
            ("三块五", "3.50 CNY"),
            ("三块五毛二", "3.52 CNY"),
            ("五毛钱", "0.50 CNY"),
            ("￥35.5", "35.50 CNY"),
            ("3,500元", "3500.00 CNY"),
            ("100美元", "100.00 USD"),
            ("先还两千", "2000.00"),
            ("三点五万元", "35000.00 CNY"),
            ("一百二十块零五毛", "120.00 CNY"),
        ],
    );
}

#[test]
fn mandarin_numbers_digits_phones_percentages_and_durations() {
    check(
        Locale::Zh,
        EntityKind::Number,
        &[("我要三个", "3"), ("一百零二", "102"), ("十五", "15"), ("打八分", "8")],
    );
    check(
        Locale::Zh,
        EntityKind::Phone,
        &[
            ("幺三八零零幺三八零零零", "13800138000"),
            ("我的电话是138 0013 8000", "13800138000"),
            ("138-0013-8000", "13800138000"),
            ("一三八，零零一三，八零零零", "13800138000"),
            ("010-62345678", "01062345678"),
            ("4008208820", "4008208820"),
        ],
    );
    check(
        Locale::Zh,
        EntityKind::Digits,
        &[("尾号是六六八八", "6688"), ("验证码 0 4 2 7 1 3", "042713"), ("订单号20261118001", "20261118001")],
    );
    check(
        Locale::Zh,
        EntityKind::Percent,
        &[("百分之三点五", "3.5%"), ("12.5%", "12.5%"), ("百分百", "100%"), ("百分之二十", "20%")],
    );
    check(
        Locale::Zh,
        EntityKind::Duration,
        &[("要等半个小时", "1800"), ("三天", "259200"), ("一个半小时", "5400"), ("分十二个月还", "31104000")],
    );
    check(
        Locale::Zh,
        EntityKind::Vague,
        &[
            ("发工资以后再还", "after_payday"),
            ("下周吧", "next_week"),
            ("过几天", "in_a_few_days"),
            ("下个月再说", "next_month"),
            ("明天下午", "afternoon"),
        ],
    );
}

#[test]
fn english_dates() {
    check(
        Locale::En,
        EntityKind::Date,
        &[
            ("tomorrow", "2026-11-19"),
            ("I'll pay the day after tomorrow", "2026-11-20"),
            ("today is fine", "2026-11-18"),
            ("on Friday", "2026-11-20"),
            ("this Friday", "2026-11-20"),
            ("next Friday", "2026-11-27"),
            ("next week on Tuesday", "2026-11-24"),
            ("at the end of the month", "2026-11-30"),
            ("the end of next month", "2026-12-31"),
            ("end of the week", "2026-11-20"),
            ("on the 20th", "2026-11-20"),
            ("by the fifteenth", "2026-12-15"),
            ("the twenty-first", "2026-11-21"),
            ("the 5th of next month", "2026-12-05"),
            ("December 25th", "2026-12-25"),
            ("March the fifth", "2027-03-05"),
            ("the 3rd of March", "2027-03-03"),
            ("20 March 2028", "2028-03-20"),
            ("2026-12-01", "2026-12-01"),
            ("12/25", "2026-12-25"),
            ("in three days", "2026-11-21"),
            ("two weeks from now", "2026-12-02"),
            ("in a month", "2026-12-18"),
            ("this weekend", "2026-11-21"),
            ("a week from today", "2026-11-25"),
        ],
    );
    check_absent(
        Locale::En,
        EntityKind::Date,
        &[
            "the first time",
            "wait a second",
            "may I ask who this is",
            "I have two questions",
            "on the second floor",
        ],
    );
}

#[test]
fn english_times() {
    check(
        Locale::En,
        EntityKind::Time,
        &[
            ("three pm", "15:00"),
            ("3 p.m.", "15:00"),
            ("3pm tomorrow", "15:00"),
            ("10 a.m.", "10:00"),
            ("at 3:30", "15:30"),
            ("3:30 pm", "15:30"),
            ("15:45", "15:45"),
            ("half past three", "15:30"),
            ("quarter to five", "16:45"),
            ("ten past nine", "09:10"),
            ("three thirty pm", "15:30"),
            ("at ten fifteen", "10:15"),
            ("three o'clock", "15:00"),
            ("eight o'clock in the morning", "08:00"),
            ("nine in the evening", "21:00"),
            ("call me at four", "16:00"),
            ("noon works", "12:00"),
            ("twelve am", "00:00"),
            ("in half an hour", "11:00"),
        ],
    );
    check_absent(
        Locale::En,
        EntityKind::Time,
        &["I have two kids", "three dollars", "at three percent", "five"],
    );
}

#[test]
fn english_money() {
    check(
        Locale::En,
        EntityKind::Money,
        &[
            ("two hundred bucks", "200.00 USD"),
            ("$35.50", "35.50 USD"),
            ("$3,500", "3500.00 USD"),
            ("thirty five dollars and fifty cents", "35.50 USD"),
            ("five dollars fifty", "5.50 USD"),
            ("fifty cents", "0.50 USD"),
            ("two grand", "2000.00"),
            ("fifteen hundred", "1500.00"),
            ("twenty quid", "20.00 GBP"),
            ("a thousand yuan", "1000.00 CNY"),
            ("$1.2k", "1200.00 USD"),
            ("I can pay 300", "300.00"),
        ],
    );
}

#[test]
fn english_numbers_digits_phones_percentages_and_durations() {
    check(
        Locale::En,
        EntityKind::Number,
        &[("three of them", "3"), ("twenty one", "21"), ("two hundred and five", "205"), ("I'd say 8", "8")],
    );
    check(
        Locale::En,
        EntityKind::Phone,
        &[
            ("(415) 555-2671", "4155552671"),
            ("415-555-2671", "4155552671"),
            ("+1 415 555 2671", "+14155552671"),
            ("four one five five five five two six seven one", "4155552671"),
            ("five five five oh one double two", "5550122"),
        ],
    );
    check(
        Locale::En,
        EntityKind::Digits,
        &[("ends in four four two one", "4421"), ("code 042713", "042713")],
    );
    check(
        Locale::En,
        EntityKind::Percent,
        &[("three point five percent", "3.5%"), ("20%", "20%"), ("ten per cent", "10%")],
    );
    check(
        Locale::En,
        EntityKind::Duration,
        &[("it takes half an hour", "1800"), ("three days", "259200"), ("an hour and a half", "5400")],
    );
    check(
        Locale::En,
        EntityKind::Vague,
        &[
            ("after payday", "after_payday"),
            ("when I get paid", "after_payday"),
            ("next week", "next_week"),
            ("tomorrow morning", "morning"),
        ],
    );
}

#[test]
fn agreement_carries_how_firmly_it_was_said() {
    let answer = |text: &str, locale| {
        let entities = extract(text, locale, now());
        entities.into_iter().find_map(|entity| match entity.value {
            EntityValue::Agreement { yes, degree } => Some((yes, degree)),
            EntityValue::Date(_)
            | EntityValue::Time(_)
            | EntityValue::Duration { .. }
            | EntityValue::Money { .. }
            | EntityValue::Percent(_)
            | EntityValue::Phone(_)
            | EntityValue::Digits(_)
            | EntityValue::Number(_)
            | EntityValue::Vague(_)
            | EntityValue::Person(_) => None,
        })
    };
    let zh = |text| answer(text, Locale::Zh);
    assert_eq!(zh("是的"), Some((true, 0.9)));
    assert_eq!(zh("嗯，应该可以吧"), Some((true, 0.6)));
    assert_eq!(zh("一定没问题"), Some((true, 1.0)));
    assert_eq!(zh("不行，我没钱"), Some((false, 0.9)));
    assert_eq!(zh("可能不行"), Some((false, 0.5)));
    assert_eq!(zh("嗯"), Some((true, 0.6)));
    assert_eq!(zh("对不起打错了"), None);
    assert_eq!(zh("好像是吧"), None);
    assert_eq!(zh("你是谁"), None);
    let en = |text| answer(text, Locale::En);
    assert_eq!(en("Yes, please"), Some((true, 0.9)));
    assert_eq!(en("Um, I guess so"), Some((true, 0.5)));
    assert_eq!(en("absolutely not"), Some((false, 1.0)));
    assert_eq!(en("no idea"), None);
    assert_eq!(en("who is this"), None);
}

#[test]
fn spans_point_at_the_words() {
    let text = "嗯，那个，下周五下午三点还五百块。";
    for entity in extract(text, Locale::Zh, now()) {
        assert_eq!(&text[entity.span.clone()], entity.text);
    }
    assert_eq!(found(text, Locale::Zh), ["date:2026-11-27", "time:15:00", "money:500.00 CNY"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics_the_readers(text in "\\PC{0,200}") {
        for locale in [Locale::Zh, Locale::En] {
            for entity in extract(&text, locale, now()) {
                prop_assert_eq!(&text[entity.span.clone()], entity.text.as_str());
            }
        }
    }

    #[test]
    fn no_row_of_time_and_number_words_panics_the_readers(
        zh in proptest::collection::vec(proptest::sample::select(vec![
            "一", "十", "百", "千", "万", "亿", "点", "半", "号", "月", "年", "日", "天", "后", "下", "个",
            "周", "五", "零", "块", "毛", "差", "分", "百分之", "9", "99", ".", ",", ":", "-", "过", "底",
        ]), 0..40),
        en in proptest::collection::vec(proptest::sample::select(vec![
            "a", "half", "hundred", "and", "thousand", "five", "twenty", "oh", "double", "past", "to",
            "pm", "the", "next", "friday", "end", "of", "month", "99999999999", "1.5", ":", "/", "$",
            "march", "th", "in", "days", "point", "quarter", "+", "percent", "k", "million",
        ]), 0..40),
    ) {
        let _ = extract(&zh.concat(), Locale::Zh, now());
        let _ = extract(&en.join(" "), Locale::En, now());
    }
}

#[test]
fn ten_thousand_characters_are_read_in_good_time() {
    for text in ["九", "一点", "下周", "99999 ", "twenty ", "half past "] {
        let long = text.repeat(10_000 / text.len());
        let _ = extract(&long, Locale::Zh, now());
        let _ = extract(&long, Locale::En, now());
    }
}

#[test]
fn mandarin_names() {
    check(
        Locale::Zh,
        EntityKind::Person,
        &[
            ("我叫王小明", "王小明"),
            ("我是王芳。", "王芳"),
            ("对，我就是李建国本人", "李建国"),
            ("我姓欧阳", "欧阳"),
            ("免贵姓陈", "陈"),
            ("我的名字是司马光", "司马光"),
            ("你找张伟啊", "张伟"),
            ("我是王芳的爱人", "王芳"),
            ("请刘女士接电话", "刘女士"),
            ("让张经理跟我说", "张经理"),
            ("叫我诸葛先生就行", "诸葛先生"),
        ],
    );
    check_absent(
        Locale::Zh,
        EntityKind::Person,
        &[
            "我是方便的",
            "是高兴还是不高兴",
            "我是说明天",
            "这是周五的事",
            "我是常常迟到",
            "找马上能办的",
            "是的",
            "对，是我",
            "我不是本人",
            "是任何时候都行",
            "是钱还没到",
            "我叫什么你不知道吗",
            "就是金额不对",
            "姓名不方便说",
            "我是在开会",
        ],
    );
}

#[test]
fn english_names() {
    check(
        Locale::En,
        EntityKind::Person,
        &[
            ("My name is Alex Morgan.", "Alex Morgan"),
            ("yes, this is Alex", "Alex"),
            ("I'm John Smith-Jones", "John Smith-Jones"),
            ("my name is peter parker", "peter parker"),
            ("Alex Morgan speaking.", "Alex Morgan"),
            ("You can call me Bob, thanks", "Bob"),
            ("ask Dr. Patel about it", "Dr. Patel"),
            ("it's Mrs Miller here", "Mrs Miller"),
        ],
    );
    check_absent(
        Locale::En,
        EntityKind::Person,
        &[
            "I'm busy",
            "I'm Busy right now",
            "this is not a good time",
            "It's Monday.",
            "this is she",
            "I am fine, thanks",
            "my name is not on the list",
            "it's OK",
            "Speaking.",
            "Yes, speaking",
            "I'm sorry, wrong number",
        ],
    );
}
