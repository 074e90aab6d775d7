//! Asking for deletion (reference 7.1). The pod's passes do the rest.

use jiff::SignedDuration;

use super::events::whole_seconds;
use super::state::Stage;
use super::status::Deletion;
use super::turn::Turn;

impl Turn<'_> {
    /// The user asks for deletion; a repeated request can only shorten the grace period.
    pub(super) fn delete(&mut self, asked: Option<i64>) {
        let over = self.state.published.phase.is_terminal();
        let grace = match asked.unwrap_or_else(|| self.pod.spec.grace_seconds.into()) {
            _ if over => 0,
            negative if negative < 0 => 1,
            grace => grace,
        };
        let is_shorter =
            self.state.deletion.is_none_or(|before| asked.is_some() && grace < before.grace_seconds);
        if self.state.stage == Stage::Finished || !is_shorter {
            return;
        }
        let asked_at = *self.state.deleted_at.get_or_insert(whole_seconds(self.now.wall));
        let timestamp = asked_at.checked_add(SignedDuration::from_secs(grace)).unwrap_or(asked_at);
        self.state.deletion = Some(Deletion { timestamp, grace_seconds: grace });
        self.state.generation += 1;
        self.shorten_kills(u64::try_from(grace).unwrap_or(0).max(1));
    }
}
