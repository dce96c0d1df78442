//! Where partitions begin: at what the group committed, or at an offset that the leader looks up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{ErrorCode, LeaderEpoch, Offset};
use tokio::time::Instant;

use super::shared::Identity;
use super::slot::{Lookup, Start};
use super::slots::{SlotId, Slots};
use crate::client::Inner;
use crate::error::{Error, Result};
use crate::offsets::{OffsetAt, ask_once};
use crate::wire::groups::{self as wire, Committer};
use crate::wire::log::OffsetQuery;
use crate::wire::session::Assigned;

/// How long a coordinator may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What one lookup is about.
#[derive(Debug, Clone)]
pub(super) struct LookupTarget {
    pub(super) slot: SlotId,
    pub(super) read: Assigned,
    pub(super) lookup: Lookup,
    pub(super) leader_epoch: Option<LeaderEpoch>,
}

/// What came of it: `None` where the group committed nothing.
pub(super) struct Found {
    target: LookupTarget,
    outcome: Result<Option<(Offset, Option<LeaderEpoch>)>>,
}

/// Asks the leaders.
pub(super) async fn look_up_log(client: Arc<Inner>, targets: Vec<LookupTarget>) -> Vec<Found> {
    let query = |target: &LookupTarget| OffsetQuery {
        partition: target.read.partition.clone(),
        topic_id: Some(target.read.topic_id),
        leader_epoch: target.leader_epoch,
        at: match target.lookup {
            Lookup::Log(at) => at,
            Lookup::Committed => OffsetAt::Latest,
        },
    };
    let answers = ask_once(&client, targets.iter().map(query).collect()).await;
    let mut found = Vec::with_capacity(answers.len());
    let mut targets = targets;
    for answer in answers {
        let Some(at) = targets
            .iter()
            .position(|target| target.read.partition == answer.partition)
        else {
            continue;
        };
        if answer.outcome.is_err() {
            client.metadata.request_refresh();
        }
        found.push(Found {
            target: targets.swap_remove(at),
            outcome: answer.outcome.map_err(|refusal| refusal.error).map(|offset| {
                let epoch = LeaderEpoch(offset.leader_epoch);
                Some((Offset(offset.offset), Some(epoch)))
            }),
        });
    }
    let unanswered = |target| Found {
        target,
        outcome: Err(crate::wire::malformed("an offset is missing")),
    };
    found.extend(targets.into_iter().map(unanswered));
    found
}

/// Asks the coordinator, as the member that owns the partitions.
pub(super) async fn look_up_committed(
    client: Arc<Inner>,
    group: Arc<str>,
    identity: Identity,
    targets: Vec<LookupTarget>,
) -> Vec<Found> {
    let asked = async {
        let (address, channel) = client.coordinators.channel(&client, &group, TIMEOUT).await?;
        let partitions = targets.iter().map(|target| target.read.clone()).collect();
        let member = Committer {
            member_id: identity.member_id,
            member_epoch: identity.epoch,
        };
        let answer = wire::offsets(channel, &group, member, &partitions, TIMEOUT).await;
        answer.map_err(|refusal| {
            client.coordinators.refused(&client, &group, &address, &refusal);
            refusal.error
        })
    };
    let answer = asked.await.map(|offsets| {
        let known = offsets.into_iter().map(|committed| {
            let epoch = committed.leader_epoch.map(LeaderEpoch);
            (
                committed.partition,
                (committed.topic_id, Offset(committed.offset), epoch),
            )
        });
        known.collect::<HashMap<_, _>>()
    });
    let find = |target: LookupTarget| {
        let outcome = match &answer {
            Ok(known) => Ok(known
                .get(&target.read.partition)
                .filter(|(id, ..)| id.is_none_or(|id| id == target.read.topic_id))
                .map(|(_, offset, epoch)| (*offset, *epoch))),
            Err(error) => Err(error.clone()),
        };
        Found { target, outcome }
    };
    targets.into_iter().map(find).collect()
}

impl Found {
    pub(super) fn apply(self, slots: &mut Slots, group: Option<&str>, now: Instant) {
        let Self { target, outcome } = self;
        match outcome {
            Ok(Some((offset, epoch))) => slots.found(target.slot, target.lookup, offset, epoch),
            Ok(None) => {
                let reset = slots.options.auto_offset_reset;
                slots.with(target.slot, |slot| {
                    if slot.start != Start::Asked(target.lookup) {
                        return;
                    }
                    match reset.at() {
                        Some(at) => slot.start = Start::Wanted(Lookup::Log(at)),
                        None => {
                            slot.start = Start::Known;
                            let group = group.unwrap_or_default();
                            slot.fail(super::errors::nothing_committed(group, &target.read.partition));
                        }
                    }
                });
            }
            Err(error) => refused(slots, target, error, now),
        }
    }
}

fn refused(slots: &mut Slots, target: LookupTarget, error: Error, now: Instant) {
    let reset = slots.options.auto_offset_reset;
    slots.with(target.slot, |slot| {
        if slot.start != Start::Asked(target.lookup) {
            return;
        }
        tracing::debug!(partition = %target.read.partition, %error, "where to begin could not be looked up");
        slot.start = Start::Wanted(target.lookup);
        match error.code() {
            // A member that was fenced hears of it on its stream, and then owns the partition no
            // more.
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => slot.back_off(now),
            _ => super::errors::refuse(slot, error, reset, now, false),
        }
    });
}
