//! Bugs on purpose, to see that the tests notice them: the chaos program, and the model of short
//! lives (`crate::lives`).
//!
//! Only with the feature `sabotage`, which nothing but `make bugs` asks for, and in the engine's own
//! unit tests; and then only the one that was put in. Else every question here is a constant `false`.

/// A bug: a protection that is missing, or a habit that others got burnt by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A start is answered before it is committed.
    AnsweredEarly,
    /// An at-most-once call that was interrupted is made again.
    AtMostOnceAgain,
    /// A key names its attempt.
    AttemptInKey,
    /// Each record is chained to nothing.
    ChainUnlinked,
    /// A write is fenced by its worker and not by its claim, and what is held is taken up again.
    ClaimUnfenced,
    /// A commit without an answer counts as written.
    CommitAssumed,
    /// Signals that come before their instance are dropped.
    EarlySignalDropped,
    /// An effect begins before what precedes it is durable.
    EffectEarly,
    /// A failure for good settles what an earlier attempt left unknown.
    FailSettlesDoubt,
    /// What a gateway answers counts as the provider's own word.
    GatewayBelieved,
    /// A command is judged by what was there before its instance was locked.
    JudgedBeforeLock,
    /// Other workers are taken over although their leases are fresh.
    LeaseIgnored,
    /// Whoever was held by workers that were lost is taken for what killed them.
    LossesConvict,
    /// Mail counts as read without having been read.
    MailUnread,
    /// A lane goes on past an event that could not be delivered.
    OutboxOvertakes,
    /// An event that could not be delivered counts as delivered.
    OutboxForgets,
    /// The outbox is read by a cursor that never goes back.
    OutboxCursor,
    /// A cancel is judged and a plan is recorded without a look at the children.
    FamilyUntold,
    /// A pivot stays announced although a command came before it was tried.
    PivotKeptOnHold,
    /// The pivot is not announced before it is tried.
    PivotUnannounced,
    /// The plan goes forward.
    PlanForward,
    /// The plan leaves out what is unknown.
    PlanKnownOnly,
    /// What an undo gave back is not entered in the ledger.
    RefundUnrecorded,
    /// An undo that found nothing of what may be applied late does not look again.
    UndoLooksOnce,
    /// An undo uses the key of what it undoes.
    UndoSharesKey,
    /// An unknown outcome counts as not done.
    UnknownIsNotDone,

    // The chaos program has nothing that would show these; the model of short lives has.
    /// A child that has failed counts as running again once its parent is resumed.
    ChildReopened,
    /// The end of a child that cannot be recorded is left out.
    ChildUnheard,
    /// A run ends before its children.
    ChildrenLeftOpen,
    /// A signal that a person has given up still ends its wait.
    DroppedStays,
    /// A retry is made however long after its step's deadline.
    LateAttempt,
    /// A hold does not go down to children.
    HoldStaysAbove,
    /// A worker that is lost in the middle of an undo is not recorded.
    LossWhileUndoing,
    /// A message that cannot be recorded stays in the mail.
    MailKept,
    /// Time for which a dependency was down runs against deadlines.
    ParkedTimeCounts,
    /// That an instance was on the old side of a patch is found out anew in each replay.
    PatchUnrecorded,
    /// Time for which people had an instance runs against deadlines.
    PeopleTimeCounts,
    /// A person who says "go on" goes on without a message that nobody has told of yet.
    RefusalAnsweredUnheard,
    /// A resolve is accepted beside one that nobody has read yet.
    ResolvedTwice,
    /// A terminate that does not say what becomes of children leaves them.
    StopUndecided,
    /// A child that was stopped by force counts as undone.
    TerminatedIsUndone,
}

impl Bug {
    /// The bugs that the chaos program notices.
    pub const ALL: [Self; 26] = [
        Self::AnsweredEarly,
        Self::AtMostOnceAgain,
        Self::AttemptInKey,
        Self::ChainUnlinked,
        Self::ClaimUnfenced,
        Self::CommitAssumed,
        Self::EarlySignalDropped,
        Self::EffectEarly,
        Self::FailSettlesDoubt,
        Self::GatewayBelieved,
        Self::JudgedBeforeLock,
        Self::LeaseIgnored,
        Self::LossesConvict,
        Self::MailUnread,
        Self::OutboxOvertakes,
        Self::OutboxForgets,
        Self::OutboxCursor,
        Self::FamilyUntold,
        Self::PivotKeptOnHold,
        Self::PivotUnannounced,
        Self::PlanForward,
        Self::PlanKnownOnly,
        Self::RefundUnrecorded,
        Self::UndoLooksOnce,
        Self::UndoSharesKey,
        Self::UnknownIsNotDone,
    ];

    /// Has this thread have it while it does something.
    #[cfg(test)]
    pub(crate) fn put_in_for<T>(self, something: impl FnOnce() -> T) -> T {
        TRIED.set(Some(self));
        let done = something();
        TRIED.set(None);
        done
    }

    /// Puts it into this process; the first one stays alone.
    #[cfg(feature = "sabotage")]
    pub fn put_in(self) {
        // A second one would hide what the first one does.
        let _ = PUT_IN.set(self);
    }

    /// Whether this process has it.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn is_on(self) -> bool {
        #[cfg(test)]
        if TRIED.get() == Some(self) {
            return true;
        }
        PUT_IN.get() == Some(&self)
    }

    /// Whether this thread has it.
    #[cfg(all(test, not(feature = "sabotage")))]
    pub(crate) fn is_on(self) -> bool {
        TRIED.get() == Some(self)
    }

    /// Whether this process has it: no.
    #[cfg(not(any(test, feature = "sabotage")))]
    #[must_use]
    pub const fn is_on(self) -> bool {
        false
    }
}

#[cfg(test)]
thread_local! {
    static TRIED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(feature = "sabotage")]
static PUT_IN: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();
