//! The names of what can be wrong with a script: stable, so that tools and people can refer to them.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What kind of mistake a finding is. Its name does not change between versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns its name, such as `unknown-node`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// Not YAML, or not of the shape of a script.
    Shape = "shape",
    /// Larger than a script may be.
    TooLarge = "too-large",
    /// Not UTF-8.
    NotUtf8 = "not-utf8",
    /// A version of the format that this program does not know.
    UnknownSchema = "unknown-schema",
    /// A name with characters that do not belong in it, or one with a meaning of its own.
    BadName = "bad-name",
    /// Two things with one name.
    Duplicate = "duplicate",
    /// A number outside its range.
    OutOfRange = "out-of-range",
    /// A value, a slot or a comparison of the wrong type.
    WrongType = "wrong-type",
    /// An enum without values, or values without an enum.
    EnumValues = "enum-values",
    /// Two fields that contradict each other.
    Contradiction = "contradiction",
    /// A field that means nothing where it stands.
    StrayField = "stray-field",
    /// No text where there must be one.
    EmptyText = "empty-text",
    /// More text than a prompt may have.
    TextTooLong = "text-too-long",
    /// A brace that is not closed.
    BadPlaceholder = "bad-placeholder",
    /// A variable that is not declared.
    UnknownVariable = "unknown-variable",
    /// A slot that is not declared.
    UnknownSlot = "unknown-slot",
    /// A node that is not there.
    UnknownNode = "unknown-node",
    /// An intent that is not declared.
    UnknownIntent = "unknown-intent",
    /// An outcome that is not declared.
    UnknownOutcome = "unknown-outcome",
    /// A kind of value that nobody finds in speech, and no entity of the script.
    UnknownEntity = "unknown-entity",
    /// An experiment or an arm that is not declared.
    UnknownArm = "unknown-arm",
    /// A guard that cannot be read.
    BadGuard = "bad-guard",
    /// A guard that can never hold.
    NeverTrue = "never-true",
    /// A guard that always holds, and does not say so.
    AlwaysTrue = "always-true",
    /// A case or rule that earlier ones leave nothing for.
    NeverTaken = "never-taken",
    /// No wording of our own for the script's language.
    NoWording = "no-wording",
    /// A script without nodes.
    NoNodes = "no-nodes",
    /// A node that does two things.
    TwoKinds = "two-kinds",
    /// A node that leads nowhere.
    DeadEnd = "dead-end",
    /// A branch without `else`.
    NoElse = "no-else",
    /// A question without words.
    NoQuestion = "no-question",
    /// `fill` without `filled`, or the other way round.
    FillWithoutFilled = "fill-without-filled",
    /// A lead-in to generated words that is too long, or that no voice can stop after.
    LeadIn = "lead-in",
    /// Something that the policy pack does not permit.
    ForbiddenByPack = "forbidden-by-pack",
    /// The policy pack demands that the opening tells something, and `disclose` leaves it out.
    PackDisclosure = "pack-disclosure",
    /// The policy pack demands a way to opt out that scripts do not have.
    PackOptOut = "pack-opt-out",
    /// The policy pack forbids a phrase that the robot may say.
    PackPhrase = "pack-phrase",
    /// The policy pack demands that a debt is named to the right person only.
    PackRightParty = "pack-right-party",
    /// The policy pack does not permit what is left on a voicemail.
    PackVoicemail = "pack-voicemail",
    /// Protected words that are not in the prompt.
    ProtectedWords = "protected-words",
    /// A call that could end without an outcome.
    NoOutcome = "no-outcome",
    /// A failed hand-over that leads to a hand-over, or one that goes nowhere.
    BadHandoff = "bad-handoff",
    /// A digression that does not say what it answers or what comes after it.
    BadDigression = "bad-digression",
    /// Something that weakens `opt_out`.
    OptOut = "opt-out",
    /// An experiment with weights, arms or measures that make none.
    BadExperiment = "bad-experiment",
    /// A node that no answer leads to.
    Unreachable = "unreachable",
    /// A node from which the call cannot end.
    NoExit = "no-exit",
    /// A ladder that comes back to its node.
    EndlessLadder = "endless-ladder",
    /// Nodes that go round without listening.
    EndlessLoop = "endless-loop",
    /// The opening does not say what it must.
    DisclosureMissing = "disclosure-missing",
    /// `disclose` leaves out what the purpose demands.
    DisclosureDropped = "disclosure-dropped",
    /// What must be told can be interrupted before it is told.
    DisclosureUnprotected = "disclosure-unprotected",
    /// An amount that somebody else might hear.
    AmountBeforePerson = "amount-before-person",
    /// Who asks for a person does not get one.
    NoHuman = "no-human",
    /// A prompt that cannot be rendered before the call.
    NotPrerendered = "not-prerendered",
    /// More than a customer listens to at a stretch.
    LongPrompt = "long-prompt",
    /// A variable that is spoken and may have no value.
    UnsetVariable = "unset-variable",
    /// A call that is hung up without a word.
    SilentEnd = "silent-end",
    /// An intent without examples, or with too few.
    FewExamples = "few-examples",
    /// Examples of two intents that sound the same.
    CollidingExamples = "colliding-examples",
    /// Something that is declared and never used.
    Unused = "unused",
    /// No tests.
    NoTests = "no-tests",
    /// A test that cannot be run.
    BadTest = "bad-test",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
