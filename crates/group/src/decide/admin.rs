//! What operators ask for.

use tidelog_types::GroupId;

use super::Context;
use crate::command::{Decision, Effect, Reply};
use crate::errors;
use crate::ids::RequestId;
use crate::record::Record;
use crate::state::State;

pub(super) fn delete(context: Context<'_>, request: RequestId, group: &GroupId) -> Decision {
    let result = match context.state.group(group) {
        None => Err(errors::group_not_found(group)),
        Some(known) if known.member_count() > 0 => Err(errors::non_empty_group(group, known.member_count())),
        Some(_) => Ok(()),
    };
    let records = if result.is_ok() {
        tombstones(context.state, group)
    } else {
        Vec::new()
    };
    let effects = vec![Effect::Reply {
        request,
        reply: Reply::Deleted(result),
    }];
    Decision {
        records,
        effects,
        may_be_cut: true,
        ..Decision::default()
    }
}

/// The end of an empty group. Its own record goes last, so that a part of these leaves a group that
/// can be deleted again.
fn tombstones(state: &State, group: &GroupId) -> Vec<Record> {
    let offset = |partition| Record::Offset {
        group: group.clone(),
        partition,
        value: None,
    };
    let mut records: Vec<Record> = state
        .offsets(group)
        .map(|(partition, _)| offset(*partition))
        .collect();
    records.push(Record::Group {
        group: group.clone(),
        value: None,
    });
    records
}
