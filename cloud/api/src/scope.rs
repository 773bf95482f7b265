//! What a token may be used for.

use std::collections::BTreeSet;

use axum::http::Method;

use crate::Problem;

/// The areas of the API, by the first part of the address behind `/v1/`. Each has a scope for reading and
/// one for changing; what is not here needs [`ADMIN`].
const AREAS: [(&str, &str); 21] = [
    ("calls", "calls"),
    ("records", "calls"),
    ("records.csv", "calls"),
    ("campaigns", "campaigns"),
    ("lists", "campaigns"),
    ("imports", "campaigns"),
    ("numbers", "numbers"),
    ("opt-outs", "suppressions"),
    ("suppressions", "suppressions"),
    ("receipts", "receipts"),
    ("callbacks", "callbacks"),
    ("callback-endpoints", "callbacks"),
    ("scripts", "scripts"),
    ("experiments", "scripts"),
    ("boxes", "fleet"),
    ("enrolments", "fleet"),
    ("fleet", "fleet"),
    ("alerts", "fleet"),
    ("rollouts", "fleet"),
    ("keys", "keys"),
    ("audit", "audit"),
];

/// The scope that holds all others.
pub(crate) const ADMIN: &str = "admin";

/// Returns the scope that a request needs.
pub(crate) fn needed(method: &Method, path: &str) -> String {
    let area = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next());
    let known = AREAS.iter().find(|(part, _)| Some(*part) == area);
    let Some((_, area)) = known else { return ADMIN.to_owned() };
    format!("{area}:{}", if method.is_safe() { "read" } else { "write" })
}

/// Says whether `held` (`None` is everything) holds `scope`.
pub(crate) fn holds(held: Option<&[String]>, scope: &str) -> bool {
    held.is_none_or(|held| held.iter().any(|one| one == scope || one == ADMIN))
}

/// Returns the answer to a token that is valid, and not for this.
pub(crate) fn missing(scope: &str) -> Problem {
    Problem::forbidden("scope_missing", format!("the token does not hold the scope `{scope}`"))
}

/// Returns every scope that there is.
pub(crate) fn all() -> BTreeSet<String> {
    let areas = AREAS.iter().flat_map(|(_, area)| [format!("{area}:read"), format!("{area}:write")]);
    areas.chain([ADMIN.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_the_scope_of_its_area_and_what_nobody_named_needs_the_highest() {
        for (method, path, scope) in [
            (Method::POST, "/v1/calls", "calls:write"),
            (Method::GET, "/v1/calls/x/receipt", "calls:read"),
            (Method::HEAD, "/v1/receipts", "receipts:read"),
            (Method::POST, "/v1/opt-outs", "suppressions:write"),
            (Method::DELETE, "/v1/keys/key_1", "keys:write"),
            (Method::GET, "/v1/something-new", "admin"),
            (Method::GET, "/v2/calls", "admin"),
        ] {
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
        let held = ["calls:read".to_owned()];
        assert!(holds(Some(&held), "calls:read") && !holds(Some(&held), "calls:write"));
        assert!(holds(None, "admin") && holds(Some(&["admin".to_owned()]), "keys:write"));
    }
}
