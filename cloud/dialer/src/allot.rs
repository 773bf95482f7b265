//! Lines for campaigns: strict priority between classes, weighted fair shares within one.

use std::collections::BinaryHeap;

/// A line as the allotment sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub id: String,
    /// The box that it belongs to: an index into the speech capacities.
    pub on: usize,
    /// Channels without a call or a lease.
    pub free: u32,
    /// Calls that may still be started on it in this pass, from its calls per second.
    pub starts: u32,
    /// The box is connected and the line registered.
    pub healthy: bool,
    /// Which calls it may carry: lines of one profile show the same numbers and serve the same regions.
    pub profile: usize,
}

impl Line {
    /// Says whether these names, of lines or of boxes before the slash, have it; none have all.
    pub fn is_among(&self, names: &[String]) -> bool {
        let named = |name: &String| {
            *name == self.id || self.id.split_once('/').is_some_and(|(on, _)| on == name.as_str())
        };
        names.is_empty() || names.iter().any(named)
    }
}

/// What a campaign wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The campaign, for the grants.
    pub campaign: u64,
    /// 0 comes first.
    pub class: u8,
    /// Its share within the class; 0 counts as 1.
    pub weight: u32,
    /// How many calls it would start now, by its pacing and its ready contacts.
    pub wanted: u32,
    /// Channels that it has under way, which count against its share.
    pub running: u32,
    /// Its ready contacts by the lines that may carry them; empty means that any line may carry any.
    pub routes: Vec<Route>,
    /// Names of lines, or of boxes before the slash, that it may use; empty means all.
    pub lines: Vec<String>,
    /// Seconds since it last got a line while it wanted one.
    pub waited_s: u32,
}

/// Contacts of a campaign that the same lines may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How many are ready.
    pub ready: u32,
    /// Profiles of the lines that may carry them.
    pub profiles: Vec<usize>,
}

impl Demand {
    fn may_use(&self, line: &Line) -> bool {
        line.healthy && line.free > 0 && line.starts > 0 && line.is_among(&self.lines)
    }

    /// Its routes, or the one that goes everywhere.
    fn ways(&self) -> Vec<Way> {
        if self.routes.is_empty() {
            return vec![Way { ready: self.wanted, profiles: None }];
        }
        let way = |route: &Route| Way { ready: route.ready, profiles: Some(route.profiles.clone()) };
        self.routes.iter().map(way).collect()
    }
}

/// A route while it is used up.
struct Way {
    ready: u32,
    /// `None` for all.
    profiles: Option<Vec<usize>>,
}

impl Way {
    fn leads_over(&self, line: &Line) -> bool {
        self.ready > 0 && self.profiles.as_ref().is_none_or(|profiles| profiles.contains(&line.profile))
    }
}

/// Takes a ready contact for a line: of the routes that lead over it the one with the fewest profiles, so that contacts
/// that may go elsewhere are kept for elsewhere.
fn set_out(ways: &mut [Way], line: &Line) -> bool {
    let narrow = |way: &&mut Way| way.profiles.as_ref().map_or(usize::MAX, Vec::len);
    let Some(way) = ways.iter_mut().filter(|way| way.leads_over(line)).min_by_key(narrow) else {
        return false;
    };
    way.ready -= 1;
    true
}

/// So many channels of a line for a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The campaign.
    pub campaign: u64,
    /// Index of the line.
    pub line: usize,
    /// How many calls.
    pub calls: u32,
}

/// After this long without a line a campaign comes before all classes, for one call.
pub const PATIENCE_S: u32 = 300;

/// Shares free channels out. `speech` is how many more calls each box can understand at once.
///
/// Idle capacity is lent: a class gets all that the classes before it do not want. It comes back by
/// itself, because calls end and every pass begins with the first class.
pub fn allot(lines: &[Line], speech: &[u32], demands: &[Demand]) -> Vec<Grant> {
    let mut lines = lines.to_vec();
    let mut speech = speech.to_vec();
    let mut left: Vec<u32> = demands.iter().map(|demand| demand.wanted).collect();
    let mut got: Vec<u32> = vec![0; demands.len()];
    let mut grants: Vec<Grant> = Vec::new();
    // For each demand the usable lines, the emptiest on top; entries are checked when they come up.
    let mut usable: Vec<BinaryHeap<(u32, std::cmp::Reverse<usize>)>> = demands
        .iter()
        .map(|demand| {
            let fits = lines.iter().enumerate().filter(|(_, line)| demand.may_use(line));
            fits.map(|(at, line)| (line.free, std::cmp::Reverse(at))).collect()
        })
        .collect();
    let mut ways: Vec<Vec<Way>> = demands.iter().map(Demand::ways).collect();
    let mut give = |d: usize, left: &mut [u32], got: &mut [u32]| -> bool {
        while let Some((free, std::cmp::Reverse(at))) = usable[d].pop() {
            let Some(line) = lines.get_mut(at) else { continue };
            let Some(capacity) = speech.get_mut(line.on) else { continue };
            if line.free == 0 || line.starts == 0 || *capacity == 0 {
                continue;
            }
            if line.free < free {
                usable[d].push((line.free, std::cmp::Reverse(at)));
                continue;
            }
            // No contact is left for it, nor will one come up in this pass.
            if !set_out(&mut ways[d], line) {
                continue;
            }
            line.free -= 1;
            line.starts -= 1;
            *capacity -= 1;
            if line.free > 0 && line.starts > 0 {
                usable[d].push((line.free, std::cmp::Reverse(at)));
            }
            left[d] -= 1;
            got[d] += 1;
            let campaign = demands[d].campaign;
            match grants.iter_mut().rev().find(|grant| grant.campaign == campaign && grant.line == at) {
                Some(grant) => grant.calls += 1,
                None => grants.push(Grant { campaign, line: at, calls: 1 }),
            }
            return true;
        }
        false
    };

    let mut starved: Vec<usize> =
        (0..demands.len()).filter(|d| demands[*d].waited_s >= PATIENCE_S && demands[*d].wanted > 0).collect();
    starved.sort_by_key(|d| (std::cmp::Reverse(demands[*d].waited_s), *d));
    for d in starved {
        give(d, &mut left, &mut got);
    }
    let mut classes: Vec<u8> = demands.iter().map(|demand| demand.class).collect();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let mut active: Vec<usize> = (0..demands.len()).filter(|d| demands[*d].class == class).collect();
        loop {
            active.retain(|d| left[*d] > 0);
            // Who has the smallest share for its weight is next; a tie goes to who was named first.
            let share =
                |d: &usize| f64::from(demands[*d].running + got[*d]) / f64::from(demands[*d].weight.max(1));
            let Some(next) =
                active.iter().copied().min_by(|a, b| share(a).total_cmp(&share(b)).then(a.cmp(b)))
            else {
                break;
            };
            if !give(next, &mut left, &mut got) {
                active.retain(|d| *d != next);
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(id: &str, on: usize, free: u32) -> Line {
        Line { id: id.into(), on, free, starts: free, healthy: true, profile: 0 }
    }

    fn demand(campaign: u64, class: u8, weight: u32, wanted: u32) -> Demand {
        Demand { campaign, class, weight, wanted, running: 0, routes: vec![], lines: vec![], waited_s: 0 }
    }

    fn route(ready: u32, profiles: &[usize]) -> Route {
        Route { ready, profiles: profiles.to_vec() }
    }

    fn of(grants: &[Grant], campaign: u64) -> u32 {
        grants.iter().filter(|grant| grant.campaign == campaign).map(|grant| grant.calls).sum()
    }

    #[test]
    fn a_class_comes_first_and_its_left_overs_are_lent_to_the_next() {
        let lines = [line("a/1", 0, 6), line("b/1", 1, 4)];
        let grants = allot(&lines, &[9, 9], &[demand(1, 1, 1, 20), demand(2, 0, 1, 7)]);
        assert_eq!((of(&grants, 2), of(&grants, 1)), (7, 3));
    }

    #[test]
    fn within_a_class_shares_follow_weights_and_count_what_runs() {
        let lines = [line("a/1", 0, 12)];
        let grants = allot(&lines, &[99], &[demand(1, 0, 2, 50), demand(2, 0, 1, 50)]);
        assert_eq!((of(&grants, 1), of(&grants, 2)), (8, 4));
        let running = Demand { running: 8, ..demand(1, 0, 2, 50) };
        let grants = allot(&lines, &[99], &[running, demand(2, 0, 1, 50)]);
        assert_eq!((of(&grants, 1), of(&grants, 2)), (5, 7), "13 to 7 is near 2 to 1");
    }

    #[test]
    fn who_waited_too_long_gets_a_line_before_every_class() {
        let starving = Demand { waited_s: PATIENCE_S, ..demand(9, 7, 1, 5) };
        let grants = allot(&[line("a/1", 0, 3)], &[3], &[demand(1, 0, 1, 50), starving]);
        assert_eq!((of(&grants, 1), of(&grants, 9)), (2, 1));
    }

    #[test]
    fn routes_lines_health_and_speech_are_respected() {
        let mut lines = vec![line("a/1", 0, 5), line("b/1", 1, 5), line("c/1", 2, 5)];
        lines[1].profile = 1;
        lines[2].healthy = false;
        let abroad = Demand { routes: vec![route(20, &[0])], ..demand(1, 0, 1, 20) };
        assert_eq!(of(&allot(&lines, &[2, 9, 9], &[abroad]), 1), 2, "box a understands two more calls");
        let nowhere = Demand { routes: vec![route(20, &[])], ..demand(1, 0, 1, 20) };
        assert_eq!(allot(&lines, &[9, 9, 9], &[nowhere]), []);
        let on_b = Demand { lines: vec!["b".into()], routes: vec![route(20, &[1])], ..demand(1, 0, 1, 20) };
        assert_eq!(of(&allot(&lines, &[9, 9, 9], &[on_b]), 1), 5);
        lines[0].starts = 1;
        assert_eq!(of(&allot(&lines[..1], &[9], &[demand(1, 0, 1, 20)]), 1), 1, "calls per second");
    }

    #[test]
    fn contacts_that_only_one_line_may_carry_get_it_and_the_others_go_elsewhere() {
        // A modem abroad with one channel, and a trunk that serves both.
        let mut lines = vec![line("a/sim", 0, 1), line("a/trunk", 0, 3)];
        lines[1].profile = 1;
        let both = Demand { routes: vec![route(3, &[0, 1]), route(3, &[1])], ..demand(1, 0, 1, 6) };
        let grants = allot(&lines, &[9], &[both]);
        assert_eq!(
            grants.iter().map(|grant| (grant.line, grant.calls)).collect::<Vec<_>>(),
            [(1, 3), (0, 1)]
        );
        let few = Demand { routes: vec![route(1, &[0])], ..demand(2, 0, 1, 1) };
        let greedy = Demand { routes: vec![route(9, &[1])], ..demand(1, 0, 1, 9) };
        assert_eq!(of(&allot(&lines, &[9], &[greedy, few]), 2), 1, "its line was not for the other");
    }

    /// Finds a contact for a call over a line of this profile, moving others to other lines' calls if need be.
    fn seat(profile: usize, contacts: &[Vec<usize>], seats: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for at in 0..contacts.len() {
            if seen[at] || !contacts[at].contains(&profile) {
                continue;
            }
            seen[at] = true;
            if seats[at].is_none_or(|other| seat(other, contacts, seats, seen)) {
                seats[at] = Some(profile);
                return true;
            }
        }
        false
    }

    proptest! {
        #[test]
        fn no_line_stands_idle_that_some_contact_may_use_and_no_contact_goes_over_another(
            free in proptest::collection::vec((0_u32..4, 0_usize..2, 0_usize..3), 1..8),
            speech in proptest::collection::vec(0_u32..9, 2),
            wants in proptest::collection::vec(
                (0_u8..2, 0_u32..12, proptest::collection::vec((1_u32..6, proptest::sample::subsequence(vec![0_usize, 1, 2], 0..=3)), 1..4)),
                1..5,
            ),
        ) {
            let lines: Vec<Line> = free.iter().enumerate()
                .map(|(at, (free, on, profile))| Line { profile: *profile, ..line(&format!("b{on}/{at}"), *on, *free) })
                .collect();
            let demands: Vec<Demand> = (0..).zip(&wants)
                .map(|(at, (class, wanted, routes))| {
                    let routes = routes.iter().map(|(ready, profiles)| route(*ready, profiles)).collect();
                    Demand { routes, ..demand(at, *class, 1, *wanted) }
                })
                .collect();
            let grants = allot(&lines, &speech, &demands);
            let on_line = |at: usize| grants.iter().filter(|g| g.line == at).map(|g| g.calls).sum::<u32>();
            let on_box = |on: usize| grants.iter().filter(|g| lines[g.line].on == on).map(|g| g.calls).sum::<u32>();
            for demand in &demands {
                // Any set of profiles got no more calls than contacts whose routes touch it (Hall's condition).
                for set in 0_u32..8 {
                    let within = |profile: usize| set & (1 << profile) != 0;
                    let got: u32 = grants.iter()
                        .filter(|g| g.campaign == demand.campaign && within(lines[g.line].profile))
                        .map(|g| g.calls).sum();
                    let able: u32 = demand.routes.iter()
                        .filter(|route| route.profiles.iter().any(|p| within(*p))).map(|route| route.ready).sum();
                    prop_assert!(got <= able);
                }
                let got = of(&grants, demand.campaign);
                prop_assert!(got <= demand.wanted);
                if got == demand.wanted {
                    continue;
                }
                // Contacts that only full lines may carry wait; more than went over those lines did not get past them.
                for (at, line) in lines.iter().enumerate() {
                    if on_line(at) == line.free.min(line.starts) || on_box(line.on) == speech[line.on] {
                        continue;
                    }
                    let able: u32 = demand.routes.iter()
                        .filter(|route| route.profiles.contains(&line.profile)).map(|route| route.ready).sum();
                    prop_assert!(able <= got, "line {at} stands idle beside {able} contacts");
                }
            }
        }

        #[test]
        fn the_same_again_gives_the_same_and_in_time_every_contact_that_some_line_may_carry_has_gone(
            free in proptest::collection::vec((1_u32..4, 0_usize..2, 0_usize..3), 1..6),
            wants in proptest::collection::vec(
                (0_u8..3, proptest::collection::vec((1_u32..5, proptest::sample::subsequence(vec![0_usize, 1, 2], 0..=3)), 1..4)),
                1..5,
            ),
        ) {
            let lines: Vec<Line> = free.iter().enumerate()
                .map(|(at, (free, on, profile))| Line { profile: *profile, ..line(&format!("b{on}/{at}"), *on, *free) })
                .collect();
            let there: Vec<usize> = lines.iter().map(|line| line.profile).collect();
            // Each campaign's contacts, by the profiles of the lines that may carry them.
            let mut left: Vec<Vec<Vec<usize>>> = wants.iter()
                .map(|(_, routes)| {
                    routes.iter().flat_map(|(ready, on)| std::iter::repeat_n(on.clone(), *ready as usize)).collect()
                })
                .collect();
            // Each pass the calls of the last one are over. There are 48 contacts at most.
            for _ in 0..48 {
                let demands: Vec<Demand> = (0..).zip(&wants).zip(&left)
                    .map(|((at, (class, _)), contacts)| {
                        let routes: Vec<Route> = contacts.iter().map(|on| route(1, on)).collect();
                        Demand { wanted: contacts.len() as u32, routes, ..demand(at, *class, 1, 0) }
                    })
                    .filter(|demand| demand.wanted > 0)
                    .collect();
                let grants = allot(&lines, &[9, 9], &demands);
                prop_assert_eq!(&grants, &allot(&lines, &[9, 9], &demands));
                for (at, contacts) in (0..).zip(&mut left) {
                    let mut seats = vec![None; contacts.len()];
                    for grant in grants.iter().filter(|grant| grant.campaign == at) {
                        for _ in 0..grant.calls {
                            let seated = seat(lines[grant.line].profile, contacts, &mut seats, &mut vec![false; contacts.len()]);
                            prop_assert!(seated, "line {} got a call that it may not carry", grant.line);
                        }
                    }
                    let mut gone = seats.iter().map(Option::is_some);
                    contacts.retain(|_| !gone.next().unwrap());
                }
            }
            for contact in left.iter().flatten() {
                prop_assert!(!contact.iter().any(|profile| there.contains(profile)), "{contact:?} starves");
            }
        }

        #[test]
        fn no_line_no_box_and_no_campaign_gets_more_than_it_may(
            free in proptest::collection::vec((0_u32..6, 0_usize..3, 0_u32..6), 1..12),
            speech in proptest::collection::vec(0_u32..12, 3),
            wants in proptest::collection::vec((0_u8..3, 0_u32..4, 0_u32..30, 0_u32..600), 1..8),
        ) {
            let lines: Vec<Line> = free.iter().enumerate()
                .map(|(at, (free, on, starts))| Line { starts: *starts, ..line(&format!("b{on}/{at}"), *on, *free) })
                .collect();
            let demands: Vec<Demand> = (0..).zip(&wants)
                .map(|(at, (class, weight, wanted, waited))| Demand { waited_s: *waited, ..demand(at, *class, *weight, *wanted) })
                .collect();
            let grants = allot(&lines, &speech, &demands);
            for (at, line) in lines.iter().enumerate() {
                let given: u32 = grants.iter().filter(|grant| grant.line == at).map(|grant| grant.calls).sum();
                prop_assert!(given <= line.free.min(line.starts));
            }
            for (on, capacity) in speech.iter().enumerate() {
                let given: u32 = grants.iter().filter(|g| lines[g.line].on == on).map(|g| g.calls).sum();
                prop_assert!(given <= *capacity);
            }
            for demand in &demands {
                prop_assert!(of(&grants, demand.campaign) <= demand.wanted);
            }
            // Nothing is left idle while somebody wants it.
            let given: u32 = grants.iter().map(|grant| grant.calls).sum();
            let wanted: u32 = demands.iter().map(|demand| demand.wanted).sum();
            let room: u32 = (0..3).map(|on| {
                let lines = lines.iter().filter(|line| line.on == on);
                speech[on].min(lines.map(|line| line.free.min(line.starts)).sum())
            }).sum();
            prop_assert_eq!(given, wanted.min(room));
        }
    }
}
