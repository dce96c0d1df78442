//! Names near to one that does not exist: of topics, groups and configs.

use std::time::Duration;

use tidelog_client::{Admin, Error, ErrorCode};

use crate::exit::{self, Exit, Failure};

/// How long looking for near names may take: the refusal is known already.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The name that was probably meant, if one is near enough: a slip of a letter for every three that
/// were written, or another case.
pub(crate) fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let length = wanted.chars().count();
    let most = (length / 3).clamp(1, 3);
    names
        .into_iter()
        // Two names whose lengths differ by more are further apart than that, and need not be
        // compared.
        .filter(|name| name.chars().count().abs_diff(length) <= most)
        .map(|name| (strsim::osa_distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most && *distance < length)
        .min()
        .map(|(_, name)| name)
}

/// What follows a refusal of `wanted`: the near name, or where the names are listed.
pub(crate) fn hint<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>, listed_by: &str) -> String {
    near(wanted, names).map_or_else(
        || format!("`{listed_by}` lists those that exist"),
        |name| format!("did you mean {name:?}?"),
    )
}

/// What went wrong with a topic. One that does not exist is told with a name near to it.
pub(crate) async fn topic_error(admin: &Admin, name: &str, error: Error) -> anyhow::Error {
    if !matches!(
        error.code(),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
    ) {
        return error.into();
    }
    no_topic(admin, name).await.into()
}

/// The refusal of a topic that does not exist.
pub(crate) async fn no_topic(admin: &Admin, name: &str) -> Failure {
    let admin = admin.clone().timeout(LOOK_TIMEOUT);
    let names: Vec<String> = admin.list_topics(true).await.map_or_else(
        |_| Vec::new(),
        |listed| listed.topics.into_iter().map(|topic| topic.name).collect(),
    );
    let hint = hint(name, names.iter().map(String::as_str), "tidelog topic list");
    Failure::new(Exit::NotFound, format!("no topic {name:?}; {hint}"))
}

/// What went wrong with configs by these names. One that no topic has is told with a name near to
/// it.
pub(crate) fn config_error<'a>(names: impl IntoIterator<Item = &'a str>, error: Error) -> anyhow::Error {
    if error.code() != Some(ErrorCode::InvalidConfig) {
        return error.into();
    }
    let known = tidelog_broker::TOPIC_CONFIGS;
    let unknown = names.into_iter().find(|name| !known.contains(name));
    let Some(meant) = unknown.and_then(|name| near(name, known.iter().copied())) else {
        return error.into();
    };
    let (exit, text) = exit::told(&error.into());
    Failure::new(exit, format!("{text}; did you mean {meant:?}?")).into()
}

/// What went wrong with a group. One that does not exist is told with a name near to it.
pub(crate) async fn group_error(admin: &Admin, name: &str, error: Error) -> anyhow::Error {
    if error.code() != Some(ErrorCode::GroupIdNotFound) {
        return error.into();
    }
    let looked = tokio::time::timeout(LOOK_TIMEOUT, admin.clone().timeout(LOOK_TIMEOUT).list_groups()).await;
    let names: Vec<String> = match looked {
        Ok(Ok(listed)) => listed.groups.into_iter().map(|group| group.group_id).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let hint = hint(name, names.iter().map(String::as_str), "tidelog group list");
    Failure::new(Exit::NotFound, format!("no group {name:?}; {hint}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["orders", "order-events", "payments", "Flights", "x"];

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let meant = |wanted| near(wanted, NAMES);
        assert_eq!(meant("ordrs"), Some("orders"), "a letter is missing");
        assert_eq!(meant("orderss"), Some("orders"), "one is too many");
        assert_eq!(meant("oredrs"), Some("orders"), "two are swapped");
        assert_eq!(meant("flights"), Some("Flights"), "the case differs");
        assert_eq!(meant("paymnets"), Some("payments"));
        for other in ["delete-records", "inventory", "y", "", "orders-of-last-year"] {
            assert_eq!(meant(other), None, "{other}");
        }
    }

    #[test]
    fn the_nearest_is_told_and_ties_are_broken_by_name() {
        assert_eq!(near("orderz", ["ordexz", "orders", "order"]), Some("order"));
        assert_eq!(near("abcdef", ["abcdez", "abcdey"]), Some("abcdey"));
    }

    #[test]
    fn a_config_that_no_topic_has_is_told_with_a_near_one() {
        let told = |name, code| {
            let error = Error::new(tidelog_client::ErrorKind::Refused(code), "no such config");
            exit::told(&config_error([name], error)).1
        };
        let said = told("min.insync.replica", ErrorCode::InvalidConfig);
        assert!(
            said.ends_with("no such config; did you mean \"min.insync.replicas\"?"),
            "{said}"
        );
        for (name, code) in [
            ("segment.bytes", ErrorCode::InvalidConfig),
            ("min.insync.replicas", ErrorCode::InvalidConfig),
            ("min.insync.replica", ErrorCode::TopicAlreadyExists),
        ] {
            let said = told(name, code);
            assert!(said.ends_with("no such config"), "{said}");
        }
    }

    #[test]
    fn a_hint_names_the_near_name_or_the_list() {
        let of = |wanted| hint(wanted, NAMES, "tidelog topic list");
        assert_eq!(of("ordrs"), "did you mean \"orders\"?");
        assert_eq!(of("inventory"), "`tidelog topic list` lists those that exist");
    }
}
