//! From what the line said to how the call ended.

use trunkline_call::Line;
use trunkline_model::Disposition;
use trunkline_sip::{Failure, FailureCause};

/// Returns the core's news for a call that never came about.
pub(crate) fn line(failure: &Failure) -> Line {
    let (disposition, what) = match failure.cause {
        FailureCause::Busy => (Disposition::Busy, "the line is busy"),
        FailureCause::NoAnswer => (Disposition::NoAnswer, "nobody answered"),
        FailureCause::Declined => (Disposition::Declined, "the call was declined"),
        FailureCause::NotFound => (Disposition::InvalidNumber, "there is no such number"),
        FailureCause::Unauthorized => {
            (Disposition::TrunkRefused, "the trunk does not accept our user name and password")
        }
        FailureCause::Forbidden => (Disposition::TrunkRefused, "the trunk does not allow this call"),
        FailureCause::NotAcceptable => (Disposition::CodecMismatch, "no audio codec in common"),
        FailureCause::Unreachable => (Disposition::Unreachable, "the trunk cannot be reached"),
        FailureCause::ServerError => (Disposition::NetworkFault, "the trunk or the network behind it failed"),
        FailureCause::Cancelled => (Disposition::Cancelled, "the call was cancelled"),
        FailureCause::Protocol => (Disposition::NetworkFault, "the trunk's answer makes no sense"),
    };
    let mut cause = what.to_owned();
    let details: Vec<String> = [
        failure.sip_code.map(|code| format!("SIP {code}")),
        failure.reason.clone().filter(|reason| !reason.is_empty()),
        failure.q850.map(|code| format!("Q.850 {code}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !details.is_empty() {
        cause = format!("{cause} ({})", details.join(", "));
    }
    Line::Failed { disposition, cause, sip_code: failure.sip_code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_password_is_told_as_what_it_is() {
        let failure = Failure {
            cause: FailureCause::Unauthorized,
            sip_code: Some(403),
            reason: Some("Forbidden".to_owned()),
            q850: None,
        };
        let Line::Failed { disposition, cause, .. } = line(&failure) else { panic!("not a failure") };
        assert_eq!(disposition, Disposition::TrunkRefused);
        assert_eq!(cause, "the trunk does not accept our user name and password (SIP 403, Forbidden)");
    }
}
