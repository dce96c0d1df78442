//! What a member wants to read.

use std::collections::BTreeSet;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_syntax::hir::{Hir, Look};
use tidelog_types::{ErrorCode, PartitionError, TopicId, TopicName};

use crate::AssignorName;
use crate::limits::{MAX_COMPILED_REGEX_BYTES, MAX_REGEX_BYTES, MAX_SUBSCRIBED_TOPICS};
use crate::topics::Topics;

/// A valid subscription: names, a regular expression over names, or both, and the assignor the
/// member prefers.
#[derive(Debug, Clone)]
pub struct Subscription {
    topics: BTreeSet<TopicName>,
    pattern: Option<Pattern>,
    assignor: AssignorName,
}

#[derive(Debug, Clone)]
struct Pattern {
    source: String,
    /// `None` for an expression that an earlier version took and this one does not: it matches
    /// nothing, and replaying a log never fails for it.
    compiled: Option<Regex>,
}

impl Subscription {
    /// Checks and compiles a subscription.
    ///
    /// INVALID_REQUEST for too many topics or none at all, INVALID_REGULAR_EXPRESSION for an
    /// expression that is too long or does not compile.
    pub fn new(
        topics: BTreeSet<TopicName>,
        regex: Option<String>,
        assignor: AssignorName,
    ) -> Result<Self, PartitionError> {
        if topics.len() > MAX_SUBSCRIBED_TOPICS {
            let message = format!(
                "a subscription names {} topics, at most {MAX_SUBSCRIBED_TOPICS} are allowed: use a regular expression",
                topics.len()
            );
            return Err(PartitionError::new(ErrorCode::InvalidRequest, message));
        }
        let regex = regex.filter(|source| !source.is_empty());
        if topics.is_empty() && regex.is_none() {
            let message = "a subscription names no topic: give topics, a regular expression, or both";
            return Err(PartitionError::new(ErrorCode::InvalidRequest, message));
        }
        let pattern = regex.map(compile).transpose()?;
        Ok(Self {
            topics,
            pattern,
            assignor,
        })
    }

    /// A subscription as it stands in the log: it was checked when it was written, and is never
    /// refused.
    pub fn restored(topics: BTreeSet<TopicName>, regex: Option<String>, assignor: AssignorName) -> Self {
        let pattern = regex.map(|source| {
            let compiled = compile(source.clone()).ok().and_then(|pattern| pattern.compiled);
            Pattern { source, compiled }
        });
        Self {
            topics,
            pattern,
            assignor,
        }
    }

    /// The names subscribed to.
    pub fn topics(&self) -> &BTreeSet<TopicName> {
        &self.topics
    }

    /// The regular expression, as the member wrote it.
    pub fn regex(&self) -> Option<&str> {
        self.pattern.as_ref().map(|pattern| pattern.source.as_str())
    }

    /// The assignor the member prefers.
    pub fn assignor(&self) -> AssignorName {
        self.assignor
    }

    /// Whether the subscription covers a topic of this name. An expression must match the whole
    /// name, and never matches an internal topic.
    pub fn covers(&self, name: &TopicName) -> bool {
        self.topics.contains(name) || self.matches(name)
    }

    /// The existing topics that are subscribed to.
    pub fn resolve(&self, topics: &Topics) -> BTreeSet<TopicId> {
        let named = self
            .topics
            .iter()
            .filter_map(|name| topics.get(name))
            .map(|topic| topic.id);
        let mut resolved: BTreeSet<TopicId> = named.collect();
        if self.pattern.is_some() {
            resolved.extend(
                topics
                    .iter()
                    .filter(|(name, _)| self.matches(name))
                    .map(|(_, topic)| topic.id),
            );
        }
        resolved
    }

    /// Subscribed names that do not exist.
    pub fn unknown(&self, topics: &Topics) -> Vec<TopicName> {
        self.topics
            .iter()
            .filter(|name| topics.get(name).is_none())
            .cloned()
            .collect()
    }

    fn matches(&self, name: &TopicName) -> bool {
        let compiled = self
            .pattern
            .as_ref()
            .and_then(|pattern| pattern.compiled.as_ref());
        compiled.is_some_and(|regex| !name.is_internal() && regex.is_match(name.as_str()))
    }
}

impl PartialEq for Subscription {
    fn eq(&self, other: &Self) -> bool {
        self.topics == other.topics && self.regex() == other.regex() && self.assignor == other.assignor
    }
}

impl Eq for Subscription {}

fn compile(source: String) -> Result<Pattern, PartitionError> {
    let refused = |why: String| PartitionError::new(ErrorCode::InvalidRegularExpression, why);
    if source.len() > MAX_REGEX_BYTES {
        let length = source.len();
        return Err(refused(format!(
            "a regular expression of {length} bytes is too long: at most {MAX_REGEX_BYTES}"
        )));
    }
    let compiled = whole_name(&source).map_err(|why| {
        refused(format!(
            "the regular expression {source:?} does not compile: {why}"
        ))
    })?;
    Ok(Pattern {
        source,
        compiled: Some(compiled),
    })
}

/// What matches a name from its first character to its last. The expression is parsed by itself and
/// anchored as what it then is: text pasted around it would become part of it, and `)|(` or a
/// comment would change what it means.
fn whole_name(source: &str) -> Result<Regex, String> {
    let parsed = syntax::parse(source).map_err(|error| error.to_string())?;
    let anchored = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
    let limits = Regex::config().nfa_size_limit(Some(MAX_COMPILED_REGEX_BYTES));
    Regex::builder()
        .configure(limits)
        .build_from_hir(&anchored)
        .map_err(|error| match error.size_limit() {
            Some(limit) => format!("compiled it takes more than {limit} bytes"),
            None => error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    fn pattern(source: &str) -> Result<Subscription, PartitionError> {
        Subscription::new(BTreeSet::new(), Some(source.to_owned()), AssignorName::Uniform)
    }

    #[test]
    fn an_expression_matches_whole_names_and_no_internal_topic() {
        let subscription = pattern("orders|.*offsets").unwrap();
        assert!(subscription.covers(&name("orders")));
        assert!(!subscription.covers(&name("orders-eu")));
        assert!(subscription.covers(&name("my-offsets")));
        assert!(!subscription.covers(&TopicName::consumer_offsets()));
    }

    #[test]
    fn what_is_written_is_what_is_matched() {
        let covered = |source: &str, topic: &str| pattern(source).unwrap().covers(&name(topic));
        // Alternatives belong to the expression, and the anchors to all of them.
        assert!(covered("orders|orders-eu", "orders-eu"));
        assert!(!covered("orders|orders-eu", "orders-eu-1"));
        assert!(!covered("orders|eu", "orders-eu"));
        // Flags and comments end with the expression.
        assert!(covered("(?x) orders # all of them", "orders"));
        assert!(!covered("(?x) orders # all of them", "orders-eu"));
        assert!(covered(
            "(?xi)ORDERS\n # two lines\n -eu # and a last one",
            "orders-eu"
        ));
        assert!(!covered("(?m)^orders$", "orders-eu"));
        assert!(covered("^orders$", "orders"));
        assert!(covered("(?m)^orders$", "orders"));
        assert!(!covered("a*", "b"));
    }

    #[test]
    fn an_expression_that_is_none_by_itself_is_refused() {
        for bad in [
            ")(",
            "X)|(?:Y",
            ")|.*|(",
            "a)",
            "(?:b",
            "(?x) (a # )",
            "[a",
            "a\\",
        ] {
            let refused = pattern(bad).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidRegularExpression, "{bad}");
            assert!(refused.message.contains("does not compile"), "{refused}");
        }
    }

    #[test]
    fn bad_expressions_are_refused_with_kafkas_code() {
        for bad in ["(", "a{1000}{1000}", &"x".repeat(MAX_REGEX_BYTES + 1)] {
            assert_eq!(
                pattern(bad).unwrap_err().code,
                ErrorCode::InvalidRegularExpression
            );
        }
        assert_eq!(pattern("").unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn a_logged_expression_never_fails_a_replay() {
        let restored = Subscription::restored(BTreeSet::new(), Some("(".to_owned()), AssignorName::Range);
        assert!(!restored.covers(&name("orders")));
        assert_eq!(restored.regex(), Some("("));
    }
}
