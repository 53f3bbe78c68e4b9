//! When a batch moves on, and how much of it is done by then: pure, and on one screen.
//!
//! ```text
//! validating ─▶ in_progress ─▶ finalizing ─▶ completed
//!    │  │           │  │  └▶ failed, cancelled (ordered)
//!    │  └▶ failed   │  └▶ expired (its window closed, or ordered)
//!    └──▶ expired   │
//!  any of the first three ─▶ cancelling ─▶ cancelled
//! ```
//!
//! With a delay, time alone moves it: a tenth of the delay is spent validating, eight tenths in
//! progress, and a tenth finalizing; the lines are done evenly while it is in progress. Without a
//! delay each look moves it on by one status, and half of the lines are done when it is seen in
//! progress.

use serde::Serialize;

/// A batch's status, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    /// Says whether it stays so for good.
    pub(super) fn is_end(self) -> bool {
        match self {
            Self::Failed | Self::Completed | Self::Expired | Self::Cancelled => true,
            Self::Validating | Self::InProgress | Self::Finalizing | Self::Cancelling => false,
        }
    }
}

/// How a batch goes, as its input and the ordered faults will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// To the end.
    Good,
    /// To the end, but slowly there.
    Stuck,
    /// It fails in validation.
    Invalid,
    /// It ends half done in this way.
    Half(Status),
    /// It is forgotten before anything is done.
    Vanishes,
}

/// A move that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// To this status, at this time.
    To(Status, i64),
    /// Out of this world.
    Gone,
}

/// The times of one batch, in milliseconds.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "numbers end in their unit")]
pub(super) struct Schedule {
    pub(super) created_ms: i64,
    /// From the creation to the end; 0 where looks move it instead.
    pub(super) delay_ms: i64,
    /// From the creation to the end of its window.
    pub(super) window_ms: i64,
}

/// How many looks a stuck batch is seen finalizing for.
const STUCK_LOOKS: u32 = 6;

impl Schedule {
    /// Says whether looks move it, and not time.
    pub(super) fn goes_by_looks(&self) -> bool {
        self.delay_ms == 0
    }

    /// Returns the move that is due, if one is.
    pub(super) fn due(&self, at: At, course: Course, now_ms: i64) -> Option<Move> {
        let (next, tenths) = after(at.status, course)?;
        let made = |at_ms| next.map_or(Move::Gone, |status| Move::To(status, at_ms));
        if self.goes_by_looks() {
            let stuck = at.status == Status::Finalizing && course == Course::Stuck;
            let looks = if stuck { STUCK_LOOKS } else { 1 };
            return (at.looks >= looks).then(|| made(now_ms));
        }
        let from = if at.status == Status::Cancelling { at.since_ms } else { self.created_ms };
        let due_ms = from.saturating_add(self.share(tenths));
        let closes_ms = self.created_ms.saturating_add(self.window_ms);
        let can_expire = matches!(at.status, Status::Validating | Status::InProgress);
        if can_expire && closes_ms < due_ms {
            return (closes_ms <= now_ms).then_some(Move::To(Status::Expired, closes_ms));
        }
        (due_ms <= now_ms).then(|| made(due_ms))
    }

    /// Returns how many of `lines` are done by `now_ms`, being in progress.
    pub(super) fn done(&self, course: Course, lines: usize, now_ms: i64) -> usize {
        let most = match course {
            Course::Good | Course::Stuck => lines,
            Course::Half(_) => lines / 2,
            Course::Invalid | Course::Vanishes => 0,
        };
        if self.goes_by_looks() {
            return most.min(lines / 2);
        }
        let passed = now_ms - self.created_ms.saturating_add(self.share(1));
        let whole = (self.share(9) - self.share(1)).max(1);
        let share = i128::from(passed.clamp(0, whole)) * lines as i128 / i128::from(whole);
        most.min(usize::try_from(share).unwrap_or(most))
    }

    fn share(&self, tenths: i64) -> i64 {
        self.delay_ms.saturating_mul(tenths) / 10
    }
}

/// Returns the status after `status` (none where the batch is forgotten), and after how many tenths
/// of the delay it comes; a cancellation's are counted from its start.
fn after(status: Status, course: Course) -> Option<(Option<Status>, i64)> {
    use Course as C;

    match (status, course) {
        (Status::Validating, C::Invalid) => Some((Some(Status::Failed), 1)),
        (Status::Validating, C::Good | C::Stuck | C::Half(_) | C::Vanishes) => {
            Some((Some(Status::InProgress), 1))
        }
        (Status::InProgress, C::Half(end)) => Some((Some(end), 9)),
        (Status::InProgress, C::Vanishes) => Some((None, 9)),
        (Status::InProgress, C::Good | C::Stuck | C::Invalid) => {
            Some((Some(Status::Finalizing), 9))
        }
        (Status::Finalizing, C::Stuck) => Some((Some(Status::Completed), 20)),
        (Status::Finalizing, C::Good | C::Half(_) | C::Invalid | C::Vanishes) => {
            Some((Some(Status::Completed), 10))
        }
        (Status::Cancelling, C::Good | C::Stuck | C::Half(_) | C::Invalid | C::Vanishes) => {
            Some((Some(Status::Cancelled), 1))
        }
        (
            Status::Failed | Status::Completed | Status::Expired | Status::Cancelled,
            C::Good | C::Stuck | C::Half(_) | C::Invalid | C::Vanishes,
        ) => None,
    }
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) status: Status,
    /// When it came to this status.
    pub(super) since_ms: i64,
    /// How often it was looked at since then, this time included.
    pub(super) looks: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(status: Status) -> At {
        At { status, since_ms: 1_000, looks: 0 }
    }

    fn timed(delay_ms: i64, window_ms: i64) -> Schedule {
        Schedule { created_ms: 1_000, delay_ms, window_ms }
    }

    const DAY: i64 = 86_400_000;

    #[test]
    fn without_a_delay_each_look_moves_it_on() {
        let schedule = timed(0, DAY);
        for (from, course, to) in [
            (Status::Validating, Course::Good, Status::InProgress),
            (Status::Validating, Course::Invalid, Status::Failed),
            (Status::InProgress, Course::Good, Status::Finalizing),
            (Status::InProgress, Course::Half(Status::Expired), Status::Expired),
            (Status::Finalizing, Course::Good, Status::Completed),
            (Status::Cancelling, Course::Good, Status::Cancelled),
        ] {
            assert_eq!(schedule.due(at(from), course, 2_000), None, "nobody looked");
            let looked = At { looks: 1, ..at(from) };
            assert_eq!(schedule.due(looked, course, 2_000), Some(Move::To(to, 2_000)));
        }
        let looked = |looks| At { looks, ..at(Status::Finalizing) };
        assert_eq!(schedule.due(looked(5), Course::Stuck, 2_000), None);
        assert!(schedule.due(looked(6), Course::Stuck, 2_000).is_some());
        let vanishes = At { looks: 1, ..at(Status::InProgress) };
        assert_eq!(schedule.due(vanishes, Course::Vanishes, 2_000), Some(Move::Gone));
        for end in [Status::Completed, Status::Failed, Status::Expired, Status::Cancelled] {
            assert!(end.is_end());
            assert_eq!(schedule.due(At { looks: 9, ..at(end) }, Course::Good, i64::MAX), None);
        }
    }

    #[test]
    fn with_a_delay_time_alone_moves_it() {
        let schedule = timed(10_000, DAY);
        for (from, course, due_ms) in [
            (Status::Validating, Course::Good, 2_000),
            (Status::InProgress, Course::Good, 10_000),
            (Status::Finalizing, Course::Good, 11_000),
            (Status::Finalizing, Course::Stuck, 21_000),
            (Status::Cancelling, Course::Good, 2_000),
        ] {
            let looked = At { looks: 99, ..at(from) };
            assert_eq!(schedule.due(looked, course, due_ms - 1), None, "{from:?} {course:?}");
            let Some(Move::To(_, told)) = schedule.due(at(from), course, DAY) else {
                panic!("{from:?} stays")
            };
            assert_eq!(told, due_ms, "the time is when it was due, not when it was seen");
        }
    }

    #[test]
    fn a_window_that_closes_first_ends_it() {
        let schedule = timed(10_000, 5_000);
        let expired = Some(Move::To(Status::Expired, 6_000));
        assert_eq!(schedule.due(at(Status::InProgress), Course::Good, 5_999), None);
        assert_eq!(schedule.due(at(Status::InProgress), Course::Good, DAY), expired);
        assert_eq!(schedule.done(Course::Good, 100, 6_000), 50);
        let early = timed(10_000, 500);
        let expired = Some(Move::To(Status::Expired, 1_500));
        assert_eq!(early.due(at(Status::Validating), Course::Good, DAY), expired);
        assert_eq!(early.done(Course::Good, 100, 1_500), 0);
    }

    #[test]
    fn lines_are_done_evenly_and_never_more_than_there_are() {
        let schedule = timed(10_000, DAY);
        let done = |now_ms| schedule.done(Course::Good, 8, now_ms);
        assert_eq!([done(0), done(2_000), done(3_000), done(6_000)], [0, 0, 1, 4]);
        assert_eq!([done(9_999), done(10_000), done(DAY)], [7, 8, 8]);
        assert_eq!(schedule.done(Course::Half(Status::Expired), 9, DAY), 4);
        assert_eq!(schedule.done(Course::Vanishes, 9, DAY), 0);
        assert_eq!(timed(0, DAY).done(Course::Good, 9, 1_000), 4);
    }
}
