//! Whether a broker that answers knows the present.

use std::time::Duration;

use tidelog_client::BrokerStanding;

use crate::exit::{Exit, Failure};

/// What is wrong with an answer, if it is not of the present.
pub(crate) fn stale(answered_by: Option<&BrokerStanding>) -> Option<String> {
    let standing = answered_by.filter(|standing| standing.stale)?;
    let broker = standing.broker_id;
    let since = match standing.since_contact {
        Some(since) => format!("has had no contact with a metadata leader for {}", rounded(since)),
        None => "has no contact with a metadata leader".to_owned(),
    };
    let reasons = match standing.unready_reasons.as_slice() {
        [] => String::new(),
        reasons => format!(" ({})", reasons.join("; ")),
    };
    Some(format!("broker {broker}, which answered, {since}{reasons}"))
}

/// The failure of a command that has shown such an answer.
pub(crate) fn refuse_stale(answered_by: Option<&BrokerStanding>) -> Result<(), Failure> {
    let Some(why) = stale(answered_by) else {
        return Ok(());
    };
    let text = format!(
        "what is shown may be out of date: {why}; see that a majority of the voters run and reach each other"
    );
    Err(Failure::new(Exit::Unhealthy, text))
}

fn rounded(since: Duration) -> String {
    match since.as_secs() {
        0 => format!("{} ms", since.as_millis()),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn standing(stale: bool, since: Option<Duration>) -> BrokerStanding {
        BrokerStanding {
            broker_id: 3,
            since_contact: since,
            stale,
            unready_reasons: Vec::new(),
        }
    }

    #[test]
    fn a_broker_out_of_contact_is_named_with_the_reasons_that_it_gives() {
        assert_eq!(stale(None), None, "an older broker does not tell");
        assert_eq!(stale(Some(&standing(false, Some(Duration::ZERO)))), None);
        let cut_off = stale(Some(&standing(true, Some(Duration::from_secs(12))))).unwrap();
        assert_eq!(
            cut_off,
            "broker 3, which answered, has had no contact with a metadata leader for 12 s"
        );
        let starting = BrokerStanding {
            unready_reasons: vec!["the cluster has not formed: waiting for broker 2".to_owned()],
            ..standing(true, None)
        };
        let told = refuse_stale(Some(&starting)).unwrap_err();
        assert_eq!(told.exit, Exit::Unhealthy);
        assert!(told.message.contains("waiting for broker 2"), "{told}");
    }
}
