//! The words of the Mandarin reader, with their values. Longer words stand before their beginnings.

use jiff::civil::Weekday;

use super::Currency;

pub(super) const DAYS: [(&str, i64); 17] = [
    ("大后天", 3),
    ("大前天", -3),
    ("后天", 2),
    ("后日", 2),
    ("前天", -2),
    ("明天", 1),
    ("明日", 1),
    ("明儿", 1),
    ("明早", 1),
    ("明晚", 1),
    ("今天", 0),
    ("今日", 0),
    ("今儿", 0),
    ("今晚", 0),
    ("今早", 0),
    ("昨天", -1),
    ("昨晚", -1),
];

/// Weeks and months ahead. Longer words first.
pub(super) const WHICH: [(&str, i64); 14] = [
    ("下下个", 2),
    ("下下", 2),
    ("下一个", 1),
    ("下个", 1),
    ("下", 1),
    ("这个", 0),
    ("这一", 0),
    ("这", 0),
    ("本", 0),
    ("当", 0),
    ("上个", -1),
    ("上一", -1),
    ("上", -1),
    ("次", 1),
];

pub(super) const WEEK: [&str; 3] = ["星期", "礼拜", "周"];

pub(super) const WEEKDAYS: [(&str, Weekday); 14] = [
    ("一", Weekday::Monday),
    ("二", Weekday::Tuesday),
    ("三", Weekday::Wednesday),
    ("四", Weekday::Thursday),
    ("五", Weekday::Friday),
    ("六", Weekday::Saturday),
    ("日", Weekday::Sunday),
    ("天", Weekday::Sunday),
    ("1", Weekday::Monday),
    ("2", Weekday::Tuesday),
    ("3", Weekday::Wednesday),
    ("4", Weekday::Thursday),
    ("5", Weekday::Friday),
    ("6", Weekday::Saturday),
];

/// Parts of the day: the hour said alone, and the first hour from which 12 is not added.
pub(super) const PARTS: [(&str, Part); 21] = [
    ("凌晨", Part::Night),
    ("半夜", Part::Night),
    ("夜里", Part::Night),
    ("大清早", Part::Morning),
    ("早上", Part::Morning),
    ("早晨", Part::Morning),
    ("清晨", Part::Morning),
    ("上午", Part::Morning),
    ("明早", Part::Morning),
    ("今早", Part::Morning),
    ("中午", Part::Noon),
    ("正午", Part::Noon),
    ("午后", Part::Afternoon),
    ("下午", Part::Afternoon),
    ("傍晚", Part::Evening),
    ("晚上", Part::Evening),
    ("夜晚", Part::Evening),
    ("今晚", Part::Evening),
    ("明晚", Part::Evening),
    ("昨晚", Part::Evening),
    ("晚间", Part::Evening),
];

#[derive(Clone, Copy)]
pub(super) enum Part {
    Night,
    Morning,
    Noon,
    Afternoon,
    Evening,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Night => "night",
            Self::Morning => "morning",
            Self::Noon => "noon",
            Self::Afternoon => "afternoon",
            Self::Evening => "evening",
        }
    }

    /// The hour of 24 that `hour` of 12 means in this part of the day.
    pub(super) fn hour(self, hour: i8) -> i8 {
        match self {
            Self::Night if hour == 12 => 0,
            Self::Night | Self::Morning => hour,
            Self::Noon if hour <= 3 => hour + 12,
            Self::Noon => hour,
            Self::Evening if hour == 12 => 0,
            Self::Afternoon | Self::Evening if hour < 12 => hour + 12,
            Self::Afternoon | Self::Evening => hour,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    pub(super) fn seconds(self, count: f64) -> i64 {
        let one = match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3_600.0,
            Self::Day => 86_400.0,
            Self::Week => 604_800.0,
            Self::Month => 2_592_000.0,
            Self::Year => 31_536_000.0,
        };
        (count * one) as i64
    }
}

pub(super) const UNITS: [(&str, Unit); 14] = [
    ("秒钟", Unit::Second),
    ("秒", Unit::Second),
    ("分钟", Unit::Minute),
    ("小时", Unit::Hour),
    ("钟头", Unit::Hour),
    ("天", Unit::Day),
    ("日", Unit::Day),
    ("周", Unit::Week),
    ("星期", Unit::Week),
    ("礼拜", Unit::Week),
    ("个月", Unit::Month),
    ("月", Unit::Month),
    ("年", Unit::Year),
    ("载", Unit::Year),
];

pub(super) const VAGUE: [(&str, &str); 16] = [
    ("发工资", "after_payday"),
    ("发薪水", "after_payday"),
    ("发薪", "after_payday"),
    ("工资到账", "after_payday"),
    ("开工资", "after_payday"),
    ("工资下来", "after_payday"),
    ("过几天", "in_a_few_days"),
    ("过些天", "in_a_few_days"),
    ("过两天", "in_a_few_days"),
    ("这几天", "in_a_few_days"),
    ("这两天", "in_a_few_days"),
    ("尽快", "soon"),
    ("马上", "soon"),
    ("一会儿", "soon"),
    ("待会", "soon"),
    ("改天", "some_day"),
];

/// What makes a quantity a sum: its worth in the currency's unit, the currency, how sure.
pub(super) const MARKS: [(&str, (f64, Currency, f32)); 17] = [
    ("块钱", (1.0, Currency::Cny, 0.95)),
    ("元钱", (1.0, Currency::Cny, 0.95)),
    ("元人民币", (1.0, Currency::Cny, 0.98)),
    ("人民币", (1.0, Currency::Cny, 0.98)),
    ("块", (1.0, Currency::Cny, 0.9)),
    ("元", (1.0, Currency::Cny, 0.95)),
    ("圆", (1.0, Currency::Cny, 0.8)),
    ("毛钱", (0.1, Currency::Cny, 0.95)),
    ("毛", (0.1, Currency::Cny, 0.8)),
    ("角", (0.1, Currency::Cny, 0.7)),
    ("分钱", (0.01, Currency::Cny, 0.95)),
    ("美元", (1.0, Currency::Usd, 0.98)),
    ("美金", (1.0, Currency::Usd, 0.98)),
    ("美刀", (1.0, Currency::Usd, 0.9)),
    ("刀", (1.0, Currency::Usd, 0.6)),
    ("欧元", (1.0, Currency::Eur, 0.98)),
    ("英镑", (1.0, Currency::Gbp, 0.98)),
];

pub(super) const HEDGES: [(&str, f32); 14] = [
    ("应该", 0.6),
    ("可能", 0.5),
    ("大概", 0.5),
    ("也许", 0.4),
    ("或许", 0.4),
    ("估计", 0.5),
    ("尽量", 0.6),
    ("差不多", 0.6),
    ("一定", 1.0),
    ("肯定", 1.0),
    ("绝对", 1.0),
    ("当然", 1.0),
    ("确实", 1.0),
    ("那就", 0.8),
];

/// Longer words first.
pub(super) const ANSWERS: [(&str, bool); 34] = [
    ("没有问题", true),
    ("没问题", true),
    ("不可以", false),
    ("不可能", false),
    ("不需要", false),
    ("不愿意", false),
    ("不方便", false),
    ("不考虑", false),
    ("不同意", false),
    ("没兴趣", false),
    ("不是", false),
    ("不行", false),
    ("不要", false),
    ("不用", false),
    ("不对", false),
    ("不能", false),
    ("不会", false),
    ("不想", false),
    ("不了", false),
    ("算了", false),
    ("没有", false),
    ("不", false),
    ("没", false),
    ("可以", true),
    ("是的", true),
    ("对的", true),
    ("好的", true),
    ("同意", true),
    ("愿意", true),
    ("是", true),
    ("对", true),
    ("好", true),
    ("行", true),
    ("有", true),
];
