//! A client that asks where logs end, carrying the newest leader epoch of any acknowledgement; and
//! now and then one that trims them.

use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::Request;
use tidelog_types::TopicIdPartition;

use super::leaders::{Leaders, Question};
use crate::context::Context;
use crate::message::{Address, Answer, Ask, Message};
use crate::network::Heard;

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum About {
    End(TopicIdPartition, Request),
    Trim(TopicIdPartition),
}

/// Asks for ends.
pub(super) struct Asker {
    address: Address,
    leaders: Leaders,
    asked: Option<Question<About>>,
    ask_at: Duration,
    trims: bool,
    pub(super) is_stopping: bool,
}

impl Asker {
    pub(super) fn new(address: Address, context: &mut Context) -> Self {
        Self {
            address,
            leaders: Leaders::default(),
            asked: None,
            ask_at: Duration::ZERO,
            trims: context.random.per_mille(400),
            is_stopping: false,
        }
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        self.leaders.refresh(self.address, context);
        let late = self.asked.take_if(|asked| asked.is_over(context));
        if let Some(About::End(partition, _) | About::Trim(partition)) = late.map(|asked| asked.about) {
            self.leaders.refused(partition, None);
        }
        if self.asked.is_some() || self.ask_at > context.now {
            return;
        }
        self.ask_at = context.now + context.random.millis(10, 200);
        let partitions = context.config.partitions();
        let Some(partition) = context.random.pick(&partitions) else {
            return;
        };
        let Some((leader, epoch)) = self.leaders.of(partition) else {
            return;
        };
        let (ask, about) = if self.trims && !self.is_stopping && context.random.per_mille(15) {
            let back = context.random.between(0, 200);
            (Ask::Trim { partition, back }, About::Trim(partition))
        } else {
            let leader_epoch = context.acknowledged_epoch(partition).map(|seen| seen.max(epoch));
            let request = Request(context.fresh());
            context.record(What::EndAsked {
                request,
                partition,
                leader_epoch,
            });
            (
                Ask::Ends {
                    partition,
                    leader_epoch,
                },
                About::End(partition, request),
            )
        };
        self.asked = Some(Question::ask(
            self.address,
            leader,
            ask,
            Duration::ZERO,
            about,
            context,
        ));
    }

    pub(super) fn hear(&mut self, heard: Heard, context: &mut Context) {
        let Heard::Datagram(_, Message::Answer { id, answer }) = heard else {
            return;
        };
        if self.leaders.take(id, &answer) {
            return;
        }
        let Some(asked) = self.asked.take_if(|asked| asked.is_answered_by(id)) else {
            return;
        };
        context.history.seen.operations += 1;
        match (answer, asked.about) {
            (
                Answer::Ends {
                    end, leader_epoch, ..
                },
                About::End(_, request),
            ) => {
                context.record(What::EndAnswered {
                    request,
                    offset: end,
                    leader_epoch,
                });
            }
            (Answer::Refused(error), About::End(partition, _) | About::Trim(partition)) => {
                self.leaders.refused(partition, Some(&error));
            }
            _ => {}
        }
    }
}
