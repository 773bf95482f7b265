//! A customer calls: which script answers, and with which variables.

use std::collections::BTreeMap;

use trunkline_model::{Callee, DialPlan};
use trunkline_wire::{NumberRoute, NumbersCommand};

/// A call that came in, and what answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival<'a> {
    /// What answers.
    pub route: &'a NumberRoute,
    /// The number that was called: as the route has it, else in international form, else as the trunk wrote it.
    pub called: String,
    /// Who calls.
    pub caller: Callee,
    /// The route's variables, and the caller's number where the script has a place for it.
    pub variables: BTreeMap<String, String>,
}

/// Decides what answers a call: the route of the first number in `called` that has one, else the route of all other
/// numbers. `caller` is the user and the host of who calls, `None` for somebody who hides it.
pub fn arrive<'a>(
    table: &'a NumbersCommand,
    plan: Option<DialPlan>,
    called: &[String],
    caller: Option<(&str, &str)>,
) -> Option<Arrival<'a>> {
    let own = called.iter().find_map(|dialled| {
        let route = table.routes.iter().find(|route| is_of(route, plan, dialled))?;
        Some((route, route.number.clone().unwrap_or_default()))
    });
    let (route, called) = own.or_else(|| {
        let other = table.routes.iter().find(|route| route.number.is_none())?;
        let dialled = called.first().cloned().unwrap_or_default();
        let number = plan.and_then(|plan| plan.read(&dialled));
        Some((other, number.map_or(dialled, |number| number.reveal().to_owned())))
    })?;
    let caller = caller.map_or_else(Callee::anonymous, |(user, host)| customer(plan, user, host));
    let mut variables = route.variables.clone();
    if let (Some(name), Callee::Number(number)) = (&route.phone, &caller) {
        variables.insert(name.clone(), number.reveal().to_owned());
    }
    Some(Arrival { route, called, caller, variables })
}

/// Says whether a route is for what was dialled, however the trunk writes it.
fn is_of(route: &NumberRoute, plan: Option<DialPlan>, dialled: &str) -> bool {
    let Some(number) = &route.number else { return false };
    number == dialled
        || plan.and_then(|plan| plan.read(dialled)).is_some_and(|dialled| dialled.reveal() == number)
}

/// Returns who calls as somebody who can be called and put on a list: a number where it is one, else an address.
fn customer(plan: Option<DialPlan>, user: &str, host: &str) -> Callee {
    let number = plan.and_then(|plan| plan.read(user)).or_else(|| user.parse().ok());
    number.map(Callee::Number).unwrap_or_else(|| {
        format!("sip:{user}@{host}").parse().ok().map_or_else(Callee::anonymous, Callee::Sip)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trunkline_wire::ScriptRef;

    use super::*;

    fn route(binding: &str, number: Option<&str>) -> NumberRoute {
        NumberRoute {
            binding: binding.to_owned(),
            number: number.map(str::to_owned),
            script: ScriptRef { id: "a".parse().unwrap(), version: "0".repeat(64).parse().unwrap() },
            variables: BTreeMap::from([("org".to_owned(), "和顺银行".to_owned())]),
            phone: Some("phone".to_owned()),
        }
    }

    fn table(routes: Vec<NumberRoute>) -> NumbersCommand {
        NumbersCommand { table: "t".to_owned(), routes, words: Vec::new() }
    }

    fn found(table: &NumbersCommand, called: &[&str]) -> Option<(String, String)> {
        let called: Vec<String> = called.iter().map(|text| (*text).to_owned()).collect();
        let arrival = arrive(table, DialPlan::of("cn"), &called, None)?;
        Some((arrival.route.binding.clone(), arrival.called))
    }

    fn told(binding: &str, called: &str) -> Option<(String, String)> {
        Some((binding.to_owned(), called.to_owned()))
    }

    #[test]
    fn a_number_has_its_own_script_and_every_other_the_common_one() {
        let all =
            table(vec![route("any", None), route("own", Some("+862155550100")), route("desk", Some("8001"))]);
        for dialled in ["+862155550100", "02155550100", "862155550100", "55550100x"] {
            let own = dialled != "55550100x";
            let expected = if own { told("own", "+862155550100") } else { told("any", dialled) };
            assert_eq!(found(&all, &[dialled]), expected, "{dialled}");
        }
        assert_eq!(found(&all, &["8001"]), told("desk", "8001"));
        assert_eq!(found(&all, &["02155559999"]), told("any", "+862155559999"));
        assert_eq!(found(&all, &["1", "8001"]), told("desk", "8001"), "the first that is bound counts");
        assert_eq!(found(&all, &[]), told("any", ""));
        assert_eq!(found(&table(vec![route("own", Some("+862155550100"))]), &["8001"]), None);
        assert_eq!(found(&table(Vec::new()), &["8001"]), None);
    }

    #[test]
    fn the_caller_is_a_number_an_address_or_nobody_and_the_script_learns_the_number_only() {
        let all = table(vec![route("any", None)]);
        let from = |caller| arrive(&all, DialPlan::of("cn"), &[], caller).unwrap();
        let known = from(Some(("013800138000", "192.0.2.1")));
        assert_eq!(known.caller.reveal(), "+8613800138000");
        assert_eq!(known.variables["phone"], "+8613800138000");
        let desk = from(Some(("8001", "192.0.2.1")));
        assert_eq!(desk.caller.reveal(), "sip:8001@192.0.2.1");
        assert_eq!(desk.variables.keys().collect::<Vec<_>>(), ["org"]);
        for hidden in [None, Some(("a b", "192.0.2.1")), Some(("8001", ""))] {
            assert!(from(hidden).caller.is_anonymous());
        }
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_writes_there_is_an_answer(called: Vec<String>, user: String, host: String) {
            let all = table(vec![route("own", Some("+862155550100")), route("any", None)]);
            let arrival = arrive(&all, DialPlan::of("cn"), &called, Some((&user, &host)));
            prop_assert!(arrival.is_some());
        }
    }
}
