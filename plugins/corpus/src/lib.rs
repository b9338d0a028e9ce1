//! Presses that panic, each in another callback. The name says where.

use pressroom_plugin::{Budget, Needs, Result, Scorer, Scores, Selection, Selector, View};

macro_rules! panicking {
    ($($press:ident: $name:literal),*) => {$(
        /// Panics.
        ///
        /// # Idea
        /// A fault.
        ///
        /// # Formula
        /// `0`
        ///
        /// # Paper
        /// None.
        #[derive(Default, serde::Deserialize, schemars::JsonSchema)]
        struct $press {}

        impl $press {
            fn panics_in(&self, place: &str) {
                // An index out of range, as it happens to authors.
                let empty: [u8; 0] = [];
                assert!(place != $name || empty[place.len()] == 1);
            }
        }
    )*};
}
panicking!(InCheck: "panic_in_check", InNeeds: "panic_in_needs", InScore: "panic_in_score", InSelect: "panic_in_select");

macro_rules! scorers {
    ($($press:ident: $name:literal),*) => {$(
        impl Scorer for $press {
            const NAME: &'static str = $name;

            fn check(&self) -> Result {
                self.panics_in("panic_in_check");
                Ok(())
            }

            fn needs(&self) -> Needs {
                self.panics_in("panic_in_needs");
                Needs::default()
            }

            fn score(&self, _: &View<'_>, _: &mut Scores<'_>) -> Result {
                self.panics_in("panic_in_score");
                Ok(())
            }
        }
    )*};
}
scorers!(InCheck: "panic_in_check", InNeeds: "panic_in_needs", InScore: "panic_in_score");

impl Selector for InSelect {
    const NAME: &'static str = "panic_in_select";
    const HEAD_WISE: bool = false;

    fn select(&self, _: &View<'_>, _: Budget, _: &mut Selection<'_>) -> Result {
        self.panics_in("panic_in_select");
        Ok(())
    }
}

pressroom_plugin::export!(scorers: [InCheck, InNeeds, InScore], selectors: [InSelect]);
