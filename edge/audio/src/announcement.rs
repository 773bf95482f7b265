//! What the network says in words where it says nothing in SIP: the number does not exist, the telephone is off.
//!
//! An announcement comes before the answer, on early media, or instead of a voicemail. Its words are known; which of
//! them a recogniser gets right is not, so that each announcement has several parts, in Mandarin and English, of which
//! one is enough. They are looked for without spaces and punctuation, and in Mandarin by their sound as well: 以观机 is
//! 已关机.

use pinyin::ToPinyin as _;

/// What an announcement says of the called telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// There is no such number.
    InvalidNumber,
    /// The telephone is switched off.
    PowerOff,
    /// The line is suspended, for unpaid bills or on request.
    Suspended,
    /// The person is in another call.
    InCall,
    /// Nobody answers.
    NoAnswer,
    /// The telephone cannot be reached, or takes no calls.
    Unreachable,
    /// The network has no way through at the moment.
    Congestion,
    /// A message may be left.
    LeaveMessage,
}

impl Announcement {
    /// Returns the word that stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidNumber => "invalid_number",
            Self::PowerOff => "power_off",
            Self::Suspended => "suspended",
            Self::InCall => "in_call",
            Self::NoAnswer => "no_answer",
            Self::Unreachable => "unreachable",
            Self::Congestion => "congestion",
            Self::LeaveMessage => "leave_message",
        }
    }
}

/// Parts of announcements. What is said in several of them at once stands earlier: who is in another call may leave a
/// message as well.
const PARTS: &[(Announcement, &[&str])] = &[
    (
        Announcement::InvalidNumber,
        &[
            "空号",
            "号码不存在",
            "号码有误",
            "号码是空",
            "核对后再拨",
            "查证后再拨",
            "查正后再拨",
            "notinservice",
            "beendisconnected",
            "doesnotexist",
            "numberisinvalid",
            "invalidnumber",
            "checkthenumber",
            "notavalidnumber",
            "unallocated",
            "notbeenrecognised",
            "notbeenrecognized",
        ],
    ),
    (
        Announcement::PowerOff,
        &[
            "已关机",
            "已經關機",
            "已经关机",
            "关机了",
            "以关机",
            "手机关机",
            "switchedoff",
            "poweredoff",
            "turnedoff",
        ],
    ),
    (
        Announcement::Suspended,
        &[
            "已停机",
            "已经停机",
            "欠费",
            "停机保号",
            "暂停服务",
            "suspended",
            "barredfromreceiving",
            "outofservice",
        ],
    ),
    (
        Announcement::InCall,
        &[
            "正在通话",
            "通话中",
            "正忙",
            "占线",
            "linebusy",
            "lineisbusy",
            "isbusy",
            "onanothercall",
            "anotherline",
            "lineisengaged",
        ],
    ),
    (
        Announcement::NoAnswer,
        &[
            "无人接听",
            "没有人接听",
            "暂时没有应答",
            "没有应答",
            "无应答",
            "noanswer",
            "notanswering",
            "isnotansweringthe",
            "doesnotanswer",
        ],
    ),
    (
        Announcement::Unreachable,
        &[
            "无法接通",
            "不在服务区",
            "不方便接听",
            "不便接听",
            "无法接听",
            "呼入限制",
            "来电提醒",
            "短信通知",
            "cannotbereached",
            "cannotbeconnected",
            "cannotbecompleted",
            "cantbereached",
            "notavailableatthemoment",
            "outofthecoverage",
            "outofcoverage",
            "isnotreachable",
            "unavailable",
        ],
    ),
    (
        Announcement::Congestion,
        &[
            "网络忙",
            "网络繁忙",
            "线路忙",
            "线路繁忙",
            "circuitsarebusy",
            "circuitsarenowbusy",
            "networkisbusy",
        ],
    ),
    (
        Announcement::LeaveMessage,
        &[
            "请留言",
            "留言信箱",
            "语音信箱",
            "语音邮箱",
            "录音留言",
            "嘀声后",
            "滴声后",
            "提示音后",
            "leaveamessage",
            "leaveyourmessage",
            "leavemeamessage",
            "recordyourmessage",
            "afterthetone",
            "afterthebeep",
            "atthetone",
            "voicemail",
            "voicemessage",
        ],
    ),
];

/// Words that only the network says of a call, whatever follows, and what recognisers make of them.
const NETWORK: &[&str] = &[
    "您拨打的",
    "您播打的",
    "您不打的",
    "您波打的",
    "您所拨打",
    "您所播打",
    "您拨的",
    "你拨打的",
    "拨打的用户",
    "拨打的电话",
    "稍后再拨",
    "thenumberyou",
    "personyouarecalling",
    "personyou'retryingtoreach",
    "subscriberyou",
    "customeryou",
    "youhavedialed",
    "youhavedialled",
    "pleasetryagainlater",
    "trylater",
];

/// The network's own waiting loop: the call is still being put through.
const HOLDS: &[&str] = &[
    "不要挂机",
    "请勿挂机",
    "不要挂断",
    "请勿挂断",
    "pleaseholdon",
    "pleaseholdtheline",
    "donothangup",
    "don'thangup",
    "stayontheline",
];

/// Returns what an announcement with these words says, and the part that says so; `None` when it is none that is known,
/// and when it asks to wait.
/// Meant for what is heard before the answer, where people say nothing.
#[must_use]
pub fn announcement(text: &str) -> Option<(Announcement, &'static str)> {
    if asks_to_wait(text).is_some() {
        return None;
    }
    let bare = bare(text);
    let written = PARTS.iter().find_map(|(what, parts)| Some((*what, found(&bare, parts)?)));
    let said = || {
        let syllables = syllables(&bare);
        PARTS.iter().find_map(|(what, parts)| Some((*what, sounds(&syllables, parts)?)))
    };
    written.or_else(said)
}

/// The same for what is heard after the answer, where people speak too, who also say that a line is busy: the network
/// must have named itself. What it says may not be known then.
#[must_use]
pub fn announcement_after_answer(text: &str) -> Option<(Option<Announcement>, &'static str)> {
    let network = found(&bare(text), NETWORK)?;
    match announcement(text) {
        Some((Announcement::LeaveMessage, _)) => None,
        Some((what, part)) => Some((Some(what), part)),
        None => Some((None, network)),
    }
}

/// Returns the part of an announcement that asks to hold the line, if there is one.
pub(crate) fn asks_to_wait(text: &str) -> Option<&'static str> {
    found(&bare(text), HOLDS)
}

/// Returns the first of `parts` in a text of which [`bare`] is left.
pub(crate) fn found(bare: &str, parts: &[&'static str]) -> Option<&'static str> {
    parts.iter().copied().find(|part| bare.contains(part))
}

/// Syllables without tones that a part must have to be looked for by its sound: shorter ones are in too many words.
const SHORTEST_BY_SOUND: usize = 3;

/// Returns the first of the Mandarin `parts` whose sound is in a row of syllables.
fn sounds(said: &[Option<&'static str>], parts: &[&'static str]) -> Option<&'static str> {
    parts.iter().copied().find(|part| {
        let wanted = syllables(part);
        wanted.len() >= SHORTEST_BY_SOUND
            && wanted.iter().all(Option::is_some)
            && said.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// The syllable of each character, without its tone; `None` for what is no Chinese character.
fn syllables(text: &str) -> Vec<Option<&'static str>> {
    text.chars().map(|c| c.to_pinyin().map(|pinyin| pinyin.plain())).collect()
}

/// A text in lower case without spaces and punctuation; apostrophes stay.
pub(crate) fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || *c == '\'').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_of_two_networks_are_told_apart() {
        for (text, what) in [
            ("您好，您拨打的号码是空号，请核对后再拨。", Announcement::InvalidNumber),
            ("对不起，您拨打的用户已关机，请稍后再拨。", Announcement::PowerOff),
            ("您好，您拨打的电话已停机。", Announcement::Suspended),
            ("您好，您所拨打的用户正在通话中，请稍后再拨", Announcement::InCall),
            ("您拨打的电话暂时无人接听，请稍后再拨", Announcement::NoAnswer),
            ("您好,您拨打的用户暂时无法接通,请稍后再拨", Announcement::Unreachable),
            ("Sorry, the number you have dialed is not in service.", Announcement::InvalidNumber),
            ("The subscriber you dialed is switched off.", Announcement::PowerOff),
            (
                "Sorry! The subscriber you dialed cannot be connected for the moment.",
                Announcement::Unreachable,
            ),
            ("The person you're trying to reach is on another call.", Announcement::InCall),
            ("All circuits are busy now. Please try your call again later.", Announcement::Congestion),
            ("Please leave a message after the tone.", Announcement::LeaveMessage),
            ("您好,您播打的用户以观机", Announcement::PowerOff),
            ("您好您波打的电话一停机", Announcement::Suspended),
            ("您拨打的电话暂时无人街听", Announcement::NoAnswer),
        ] {
            assert_eq!(announcement(text).map(|(what, _)| what), Some(what), "{text}");
        }
        assert_eq!(announcement("春天里的那个百花香"), None, "a colour ring");
        assert_eq!(announcement("我们的关机器是空好的"), None, "two syllables are in too many words");
        assert_eq!(announcement("您好，请不要挂机，您拨打的电话正在通话中"), None, "it may be answered yet");
    }

    #[test]
    fn a_person_who_says_that_the_line_was_busy_is_no_announcement() {
        for text in
            ["我刚才正在通话中，你说吧", "Sorry, my phone was switched off.", "喂，你好", "He is busy"]
        {
            assert_eq!(announcement_after_answer(text), None, "{text}");
        }
        let text = "您拨打的用户正在通话中";
        assert_eq!(announcement_after_answer(text).map(|(what, _)| what), Some(Some(Announcement::InCall)));
        let text = "您不打的电话与关系";
        assert_eq!(announcement_after_answer(text), Some((None, "您不打的")));
    }
}
