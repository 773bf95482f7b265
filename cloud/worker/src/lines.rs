//! Which lines there are, what each may carry, and how many new calls they take now.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{BoxRow, Db, DbError, Wants};
use trunkline_dialer::allot::{Line, Route};
use trunkline_model::{Callee, E164};
use trunkline_wire::{LineKind, TrunkReport};

/// None of the lines that a campaign may use calls where the contact is.
pub(crate) const NO_LINE_SERVES: &str = "no_line_serves";
/// None of those that do may show a number of the campaign's.
pub(crate) const NO_LINE_SHOWS: &str = "no_line_shows";

/// The lines of all boxes.
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// How many more calls each box takes.
    pub(crate) room: Vec<u32>,
    /// What lines may carry, by their profiles.
    profiles: Vec<Profile>,
}

/// Lines that may show the same numbers and call the same regions.
type Profile = TrunkReport;

/// Why no line carries a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fits {
    /// Some does.
    Yes,
    /// None may, for this reason.
    No(&'static str),
}

impl Lines {
    /// Reads the lines of all boxes, less what they carry already.
    ///
    /// # Errors
    /// [`DbError`].
    pub(crate) async fn read(db: &Db, now: Timestamp) -> Result<Self, DbError> {
        let boxes = db.boxes().await?;
        let starts = starts(db, &boxes, now).await?;
        let mut lines = Self::of(boxes.iter().zip(starts), now);
        if lines.profiles.len() > 1 || boxes.iter().any(|row| row.trunks.len() > 1) {
            lines.carry(&db.carried().await?);
        }
        Ok(lines)
    }

    /// Returns the lines of these boxes; beside each is how many new calls it takes now.
    pub(crate) fn of<'a>(boxes: impl Iterator<Item = (&'a BoxRow, u32)>, now: Timestamp) -> Self {
        let mut all = Self { lines: Vec::new(), room: Vec::new(), profiles: Vec::new() };
        for (on, (row, starts)) in boxes.enumerate() {
            let room = row.channels.saturating_sub(row.busy);
            all.room.push(room.min(starts));
            // What is not known is one line that carries everything.
            let unknown = [TrunkReport { name: "trunk".into(), up: true, ..TrunkReport::default() }];
            let trunks = if row.trunks.is_empty() { &unknown[..] } else { &row.trunks };
            for trunk in trunks {
                let profile = all.profile(trunk);
                let speed = trunk.calls_per_second.map_or(u32::MAX, |rate| window(rate).0);
                all.lines.push(Line {
                    id: format!("{}/{}", row.id, trunk.name),
                    on,
                    free: trunk.most_calls().unwrap_or(row.channels),
                    starts: speed.min(starts),
                    healthy: trunk.up && row.takes_calls(now),
                    profile,
                });
            }
        }
        all
    }

    fn profile(&mut self, trunk: &TrunkReport) -> usize {
        // A modem shows no number but its own; nothing else hangs on what a line is.
        let kind = if trunk.kind == LineKind::Gsm { LineKind::Gsm } else { LineKind::Sip };
        let profile = Profile {
            kind,
            caller_ids: trunk.caller_ids.clone(),
            serves: trunk.serves.clone(),
            ..Profile::default()
        };
        self.profiles.iter().position(|known| *known == profile).unwrap_or_else(|| {
            self.profiles.push(profile);
            self.profiles.len() - 1
        })
    }

    /// Counts calls off the lines that carry them. A box does not say which: of those that may, the one that fewest
    /// other calls may use.
    fn carry(&mut self, calls: &[Wants]) {
        let at = |line: &Line| line.id.split_once('/').map(|(on, _)| on.to_owned()).unwrap_or_default();
        let mut of_box: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (n, line) in self.lines.iter().enumerate() {
            of_box.entry(at(line)).or_default().push(n);
        }
        for call in calls {
            let Some(lines) = call.boxes.first().and_then(|on| of_box.get(on)) else { continue };
            let fits = |n: &&usize| {
                let line = &self.lines[**n];
                line.free > 0
                    && carries(&self.profiles[line.profile], call.caller_id.as_deref(), &call.callee)
            };
            let narrow = |n: &&usize| {
                let profile = &self.profiles[self.lines[**n].profile];
                (profile.serves.is_empty(), profile.caller_ids.is_empty())
            };
            if let Some(n) = lines.iter().filter(fits).min_by_key(narrow).copied() {
                self.lines[n].free -= 1;
            }
        }
    }

    /// Sets aside what calls that wait already have the first right to: on the lines that may carry them, and on no
    /// others. `boxes` is who may carry a call, `None` for nobody.
    pub(crate) fn owe(&mut self, waiting: &[Wants], boxes: impl Fn(&Wants) -> Option<Vec<String>>) {
        let mut alike: BTreeMap<(bool, Vec<String>, Vec<usize>), u32> = BTreeMap::new();
        for call in waiting {
            let Some(boxes) = boxes(call) else { continue };
            let may = |profile: &Profile| carries(profile, call.caller_id.as_deref(), &call.callee);
            let profiles = self.profiles_where(may);
            // Who may go anywhere takes what is left.
            *alike.entry((boxes.is_empty(), boxes, profiles)).or_default() += 1;
        }
        for ((_, boxes, profiles), mut owed) in alike {
            let may = |line: &Line| line.healthy && line.is_among(&boxes) && profiles.contains(&line.profile);
            for line in self.lines.iter_mut().filter(|line| may(line)) {
                let Some(room) = self.room.get_mut(line.on) else { continue };
                let taken = owed.min(line.free).min(line.starts).min(*room);
                line.free -= taken;
                line.starts -= taken;
                *room -= taken;
                owed -= taken;
            }
        }
    }

    /// Returns the names that a campaign allows. `BOX/trunk` stands for its box where no line of it is called so.
    pub(crate) fn allowed(&self, names: &[String]) -> Vec<String> {
        let known = |name: &String| self.lines.iter().any(|line| line.id == *name);
        let real = |name: &String| match name.strip_suffix("/trunk") {
            Some(on) if !known(name) => on.to_owned(),
            Some(_) | None => name.clone(),
        };
        names.iter().map(real).collect()
    }

    /// Returns how many calls could begin now.
    pub(crate) fn free(&self) -> u32 {
        let mut room = self.room.clone();
        let healthy = self.lines.iter().filter(|line| line.healthy);
        let free = healthy.map(|line| {
            let Some(room) = room.get_mut(line.on) else { return 0 };
            let taken = line.free.min(line.starts).min(*room);
            *room -= taken;
            taken
        });
        free.sum()
    }

    /// Returns the profiles of all lines that a campaign may use, whether they take calls now or not.
    pub(crate) fn within_reach(&self, allowed: &[String]) -> BTreeSet<usize> {
        self.lines.iter().filter(|line| line.is_among(allowed)).map(|line| line.profile).collect()
    }

    /// Says whether any line of these profiles may ever carry a call that shows one of these numbers.
    pub(crate) fn fits(&self, within_reach: &BTreeSet<usize>, shown: &[E164], callee: &Callee) -> Fits {
        // A box that never came says nothing of its lines.
        if within_reach.is_empty() || !matches!(callee, Callee::Number(_)) {
            return Fits::Yes;
        }
        let serving = within_reach.iter().filter_map(|at| self.profiles.get(*at));
        let mut serving = serving.filter(|profile| profile.serves(callee.reveal())).peekable();
        if serving.peek().is_none() {
            return Fits::No(NO_LINE_SERVES);
        }
        if serving.any(|profile| shows_one(profile, shown)) { Fits::Yes } else { Fits::No(NO_LINE_SHOWS) }
    }

    /// Returns the profiles of lines, of those that a campaign may use, that take a call now.
    pub(crate) fn open(&self, allowed: &[String]) -> BTreeSet<usize> {
        let takes = |line: &&Line| {
            let room = self.room.get(line.on).is_some_and(|room| *room > 0);
            room && line.healthy && line.free > 0 && line.starts > 0 && line.is_among(allowed)
        };
        self.lines.iter().filter(takes).map(|line| line.profile).collect()
    }

    /// Returns the profiles of lines that may call this contact with one of these numbers.
    pub(crate) fn profiles_for(&self, shown: &[E164], callee: &Callee) -> Vec<usize> {
        self.profiles_where(|profile| {
            !matches!(callee, Callee::Number(_))
                || (profile.serves(callee.reveal()) && shows_one(profile, shown))
        })
    }

    /// Says whether lines of a profile may show a number.
    pub(crate) fn shows(&self, profile: usize, number: &E164) -> bool {
        self.profiles.get(profile).is_some_and(|profile| profile.shows(Some(number.reveal())))
    }

    /// Groups contacts by the lines that may carry them; none where all lines are alike.
    pub(crate) fn routes<'a>(&self, shown: &[E164], callees: impl Iterator<Item = &'a Callee>) -> Vec<Route> {
        let alike = self.profiles.iter().all(|profile| *profile == Profile::default());
        if alike {
            return Vec::new();
        }
        let mut routes: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
        for callee in callees {
            *routes.entry(self.profiles_for(shown, callee)).or_default() += 1;
        }
        routes.into_iter().map(|(profiles, ready)| Route { ready, profiles }).collect()
    }

    fn profiles_where(&self, may: impl Fn(&Profile) -> bool) -> Vec<usize> {
        (0..self.profiles.len()).filter(|at| may(&self.profiles[*at])).collect()
    }
}

fn shows_one(profile: &Profile, shown: &[E164]) -> bool {
    shown.is_empty() || shown.iter().any(|number| profile.shows(Some(number.reveal())))
}

/// Says whether a line may carry a call; one to a SIP address goes past the lines.
pub(crate) fn carries(line: &TrunkReport, caller_id: Option<&str>, callee: &Callee) -> bool {
    !matches!(callee, Callee::Number(_)) || (line.shows(caller_id) && line.serves(callee.reveal()))
}

/// Says whether a box has a line that may carry a call. Where all are down every one counts: it is tried all the same.
pub(crate) fn box_carries(row: &BoxRow, caller_id: Option<&str>, callee: &Callee) -> bool {
    let none_up = row.trunks.iter().all(|trunk| !trunk.up);
    row.trunks.is_empty()
        || row.trunks.iter().any(|trunk| (trunk.up || none_up) && carries(trunk, caller_id, callee))
}

/// Returns how many calls each of these boxes may be given now by the calls per second of its trunks, in their order:
/// none where no trunk takes calls, and any number where nothing is known.
///
/// # Errors
/// [`DbError`].
pub(crate) async fn starts(db: &Db, boxes: &[BoxRow], now: Timestamp) -> Result<Vec<u32>, DbError> {
    let mut starts = vec![u32::MAX; boxes.len()];
    let mut asked = Vec::new();
    for (row, starts) in boxes.iter().zip(&mut starts) {
        let Some(rate) = row.calls_per_second() else { continue };
        let (most, within) = window(rate);
        *starts = most;
        if most > 0 {
            asked.push((&row.id, now.saturating_sub(within).unwrap_or(Timestamp::MIN)));
        }
    }
    let given = db.given_since(&asked).await?;
    let limited = starts.iter_mut().filter(|starts| (1..u32::MAX).contains(*starts));
    for (starts, given) in limited.zip(given) {
        *starts = starts.saturating_sub(given);
    }
    Ok(starts)
}

/// A speed as so many calls within so long: 2.5 a second are three within 1.2 s. No trunk is slower than one call in an
/// hour.
fn window(rate: f64) -> (u32, SignedDuration) {
    if rate <= 0.0 {
        return (0, SignedDuration::ZERO);
    }
    let most = rate.ceil().min(1e6);
    let within = (most / rate).min(3_600.0);
    (most as u32, SignedDuration::from_millis((within * 1e3).round() as i64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline_db::{Created, NewCall};
    use trunkline_model::{BoxId, CallId};
    use trunkline_wire::{Birth, ScriptRef};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_400_000_000 + ms).unwrap()
    }

    fn trunk(up: bool, calls_per_second: Option<f64>) -> TrunkReport {
        TrunkReport { up, calls_per_second, ..TrunkReport::default() }
    }

    async fn born(db: &Db, id: &str, trunks: Vec<TrunkReport>) -> BoxId {
        let id: BoxId = id.parse().unwrap();
        let birth = Birth {
            trunks,
            ..serde_json::from_str(r#"{"online": true, "sess": 1, "channels": 30}"#).unwrap()
        };
        db.box_said(&id, &birth, at(0)).await.unwrap();
        id
    }

    async fn give(db: &Db, n: u128, to: &BoxId, at: Timestamp) {
        let script = ScriptRef { id: "demo".parse().unwrap(), version: "0".repeat(64).parse().unwrap() };
        let call = NewCall {
            id: CallId::from_u128(n),
            callee: "+8613800138000".parse().unwrap(),
            caller_id: None,
            script,
            variables: BTreeMap::new(),
            external_id: None,
            callback_url: None,
            not_before: Timestamp::UNIX_EPOCH,
            not_after: at + SignedDuration::from_secs(60),
            facts: "{}".into(),
            priority: 0,
            campaign: None,
            trace: String::new(),
            idempotency: None,
        };
        assert!(matches!(db.create_call(&call, at).await.unwrap(), Created::New(_)));
        assert!(db.assign(call.id, to, at).await.unwrap());
    }

    #[tokio::test]
    async fn a_box_is_given_as_many_calls_as_its_trunks_take() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        let two =
            born(&db, "a", vec![trunk(true, Some(1.5)), trunk(true, Some(0.5)), trunk(false, Some(9.0))])
                .await;
        born(&db, "b", vec![trunk(false, Some(5.0)), trunk(false, None)]).await;
        born(&db, "c", vec![trunk(true, Some(5.0)), trunk(true, None)]).await;
        born(&db, "d", vec![]).await;
        let slow = born(&db, "e", vec![trunk(true, Some(0.1))]).await;
        let starts = async |at| super::starts(&db, &db.boxes().await.unwrap(), at).await.unwrap();
        assert_eq!(starts(at(0)).await, [2, 0, u32::MAX, u32::MAX, 1]);
        give(&db, 1, &two, at(0)).await;
        give(&db, 2, &slow, at(0)).await;
        assert_eq!(starts(at(10)).await, [1, 0, u32::MAX, u32::MAX, 0]);
        give(&db, 3, &two, at(500)).await;
        assert_eq!(starts(at(999)).await[0], 0);
        assert_eq!(starts(at(1_000)).await[0], 1, "the first is a second ago");
        assert_eq!(starts(at(9_999)).await[4], 0, "one in ten seconds");
        assert_eq!(starts(at(10_000)).await[4], 1);
    }

    fn number(text: &str) -> Callee {
        text.parse().unwrap()
    }

    fn row(id: &str, channels: u32, trunks: Vec<TrunkReport>) -> BoxRow {
        BoxRow {
            id: id.parse().unwrap(),
            online: true,
            sess: 1,
            software: String::new(),
            channels,
            busy: 0,
            last_seen: at(0),
            suppressed_upto: 0,
            confirmed: true,
            draining: None,
            numbers: None,
            trunks,
        }
    }

    fn named(name: &str, caller_ids: &[&str], serves: &[&str]) -> TrunkReport {
        let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        TrunkReport {
            name: name.into(),
            up: true,
            channels: Some(10),
            caller_ids: own(caller_ids),
            serves: own(serves),
            ..TrunkReport::default()
        }
    }

    fn wants(on: &str, callee: &str, caller_id: Option<&str>) -> Wants {
        let boxes = if on.is_empty() { Vec::new() } else { vec![on.to_owned()] };
        Wants { boxes, callee: number(callee), caller_id: caller_id.map(str::to_owned) }
    }

    /// Box a with a trunk into China that shows one number, and a modem; box b, which says nothing of its lines.
    fn two_boxes() -> Lines {
        let modem = TrunkReport { kind: LineKind::Gsm, ..named("sim", &[], &["+44"]) };
        let boxes =
            [row("a", 8, vec![named("cn", &["+862155550100"], &["+86"]), modem]), row("b", 3, vec![])];
        Lines::of(boxes.iter().map(|row| (row, u32::MAX)), at(0))
    }

    #[test]
    fn a_modem_is_a_line_of_one_call_beside_the_trunks_of_its_box() {
        let lines = two_boxes();
        let shown: Vec<(&str, u32)> = lines.lines.iter().map(|line| (line.id.as_str(), line.free)).collect();
        assert_eq!(shown, [("a/cn", 10), ("a/sim", 1), ("b/trunk", 3)]);
        assert_eq!((lines.room.as_slice(), lines.free()), (&[8, 3][..], 11));
    }

    #[test]
    fn a_contact_goes_over_lines_that_serve_its_region_and_show_the_number_and_the_reason_says_what_lacks() {
        let lines = two_boxes();
        let shown = |number: &str| [number.parse::<E164>().unwrap()];
        let ours = shown("+862155550100");
        assert_eq!(lines.profiles_for(&ours, &number("+8613800138000")), [0, 2]);
        assert_eq!(lines.profiles_for(&shown("+442079460000"), &number("+8613800138000")), [2]);
        assert_eq!(lines.profiles_for(&ours, &number("+442079460000")), [2], "a modem shows its own number");
        assert_eq!(lines.profiles_for(&[], &number("+442079460000")), [1, 2]);
        let fits = |allowed: &[&str], shown: &[E164], callee: &str| {
            let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
            lines.fits(&lines.within_reach(&allowed), shown, &number(callee))
        };
        assert_eq!(fits(&["a"], &ours, "+8613800138000"), Fits::Yes);
        assert_eq!(fits(&["a"], &ours, "+12125550100"), Fits::No(NO_LINE_SERVES));
        let other = shown("+862155550199");
        assert_eq!(fits(&["a"], &other, "+8613800138000"), Fits::No(NO_LINE_SHOWS));
        assert_eq!(fits(&[], &other, "+8613800138000"), Fits::Yes, "box b says nothing");
        assert_eq!(fits(&["a/sim"], &ours, "+8613800138000"), Fits::No(NO_LINE_SERVES));
        assert_eq!(fits(&["a/sim"], &ours, "+442079460000"), Fits::No(NO_LINE_SHOWS));
        assert_eq!(fits(&["c"], &ours, "+12125550100"), Fits::Yes, "box c never came");
    }

    #[test]
    fn calls_count_on_the_lines_that_may_carry_them() {
        let mut lines = two_boxes();
        lines
            .carry(&[wants("a", "+442079460000", None), wants("a", "+8613800138000", Some("+862155550100"))]);
        let free: Vec<u32> = lines.lines.iter().map(|line| line.free).collect();
        assert_eq!(free, [9, 0, 3]);
        let row = row("a", 8, vec![named("cn", &["+862155550100"], &["+86"])]);
        assert!(box_carries(&row, Some("+862155550100"), &number("+8613800138000")));
        assert!(!box_carries(&row, Some("+862155550199"), &number("+8613800138000")));
        assert!(!box_carries(&row, None, &number("+442079460000")));
        assert!(box_carries(&row, None, &number("sip:anna@127.0.0.1:5070")), "past the trunks");
    }

    #[test]
    fn calls_that_wait_take_no_line_that_may_not_carry_them() {
        let free = |lines: &Lines| lines.lines.iter().map(|line| line.free).collect::<Vec<_>>();
        let boxes = |call: &Wants| Some(call.boxes.clone());
        let mut lines = two_boxes();
        lines.owe(&vec![wants("a", "+442079460000", None); 250], boxes);
        assert_eq!(free(&lines), [10, 0, 3], "only the modem serves them");
        let mut lines = two_boxes();
        lines.owe(&vec![wants("", "+8613800138000", None); 250], |_| None);
        assert_eq!(free(&lines), [10, 1, 3], "nobody may carry them");
        let mut lines = two_boxes();
        let waiting =
            [vec![wants("", "+8613800138000", None); 2], vec![wants("b/trunk", "+8613800138000", None); 2]];
        lines.owe(&waiting.concat(), boxes);
        assert_eq!(free(&lines), [8, 1, 1]);
    }

    #[test]
    fn a_speed_is_kept_on_average_also_where_it_is_no_whole_number() {
        assert_eq!(window(2.5), (3, SignedDuration::from_millis(1_200)));
        assert_eq!(window(50.0), (50, SignedDuration::from_secs(1)));
        assert_eq!(window(0.05), (1, SignedDuration::from_secs(20)));
        assert_eq!(window(0.0).0, 0);
        assert_eq!(window(-1.0).0, 0);
        assert_eq!(window(f64::MAX).0, 1_000_000);
    }
}
