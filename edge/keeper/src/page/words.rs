//! What the page says, in the two languages of those who stand before a box.

/// The page's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

impl Language {
    /// Chooses what was asked for, or else what the browser prefers.
    pub(super) fn of(asked: &str, accepted: &str) -> Self {
        let first = accepted.split(',').next().unwrap_or_default().trim();
        match asked {
            "zh" => Self::Chinese,
            "en" => Self::English,
            _ if first.to_ascii_lowercase().starts_with("zh") => Self::Chinese,
            _ => Self::English,
        }
    }

    /// Its code (BCP 47).
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

/// Every text of the page.
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) other: &'static str,
    pub(super) code: &'static str,
    pub(super) hint: &'static str,
    pub(super) open: &'static str,
    pub(super) wrong: &'static str,
    pub(super) wait: &'static str,
    pub(super) leave: &'static str,
    pub(super) good: &'static str,
    pub(super) bad: &'static str,
    pub(super) id: &'static str,
    pub(super) joining: &'static str,
    pub(super) not_joined: &'static str,
    pub(super) claim: &'static str,
    pub(super) joined: &'static str,
    pub(super) until: &'static str,
    pub(super) network: &'static str,
    pub(super) cable: &'static str,
    pub(super) route: &'static str,
    pub(super) no_route: &'static str,
    pub(super) names: &'static str,
    pub(super) time: &'static str,
    pub(super) time_unknown: &'static str,
    pub(super) time_off: &'static str,
    pub(super) api: &'static str,
    pub(super) broker: &'static str,
    pub(super) link: &'static str,
    pub(super) no_link: &'static str,
    pub(super) lines: &'static str,
    pub(super) no_lines: &'static str,
    pub(super) registered: &'static str,
    pub(super) versions: &'static str,
    pub(super) no_versions: &'static str,
    pub(super) step: &'static str,
}

const ENGLISH: Words = Words {
    title: "Trunkline box",
    other: "中文",
    code: "Code on the label",
    hint: "Eight letters and digits, on the label of this box.",
    open: "Open",
    wrong: "This is not the code of this box.",
    wait: "Too many wrong codes. Wait a quarter of an hour.",
    leave: "Leave",
    good: "good",
    bad: "not good",
    id: "This box",
    joining: "Joining the fleet",
    not_joined: "This box has not joined. Give its code to your headquarters: somebody enters it there, and somebody else approves it.",
    claim: "Code",
    joined: "joined",
    until: "certificate until",
    network: "Network",
    cable: "Cable",
    route: "Way out of this network",
    no_route: "no gateway: look at the router, or at the address that the box was given",
    names: "The cloud's name (DNS)",
    time: "Time",
    time_unknown: "not known: the cloud will say",
    time_off: "the box's clock is off by",
    api: "Cloud, HTTPS",
    broker: "Cloud, MQTT",
    link: "Link to the cloud",
    no_link: "not linked",
    lines: "Telephone lines",
    no_lines: "none is known yet",
    registered: "registered",
    versions: "Versions",
    no_versions: "this box is not updated over the air",
    step: "step",
};

const CHINESE: Words = Words {
    title: "Trunkline 盒子",
    other: "English",
    code: "标签上的代码",
    hint: "八位字母和数字，印在本机标签上。",
    open: "打开",
    wrong: "这不是本机的代码。",
    wait: "输错次数过多，请等一刻钟再试。",
    leave: "退出",
    good: "正常",
    bad: "异常",
    id: "本机",
    joining: "加入机群",
    not_joined: "本机尚未加入。请把代码告诉总部：一人录入，另一人批准。",
    claim: "代码",
    joined: "已加入",
    until: "证书有效期至",
    network: "网络",
    cable: "网线",
    route: "外网出口",
    no_route: "没有网关：请检查路由器，或本机得到的地址",
    names: "云端域名（DNS）",
    time: "时间",
    time_unknown: "未知：连上云端后自动校准",
    time_off: "本机时钟偏差",
    api: "云端 HTTPS",
    broker: "云端 MQTT",
    link: "与云端的连接",
    no_link: "未连接",
    lines: "电话线路",
    no_lines: "暂无线路信息",
    registered: "已注册",
    versions: "版本",
    no_versions: "本机不在线升级",
    step: "阶段",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_before_what_the_browser_prefers() {
        assert_eq!(Language::of("", "zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese);
        assert_eq!(Language::of("", "en-GB,zh;q=0.9"), Language::English);
        assert_eq!(Language::of("en", "zh-CN"), Language::English);
        assert_eq!(Language::of("zh", ""), Language::Chinese);
        assert_eq!(Language::of("xx", ""), Language::English);
    }
}
