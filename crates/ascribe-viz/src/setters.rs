//! Settings that every kind of picture has.

/// Writes the setters of these fields.
macro_rules! setters {
    ($($field:ident),*) => {
        $($crate::setters::setter!($field);)*
    };
}

/// Writes one setter.
macro_rules! setter {
    (title) => {
        /// The title over the picture, instead of the default, if there is one.
        pub fn title(mut self, title: impl Into<String>) -> Self {
            self.title = Some(title.into());
            self
        }
    };
    (subtitle) => {
        /// The line under the title, instead of the default, if there is one.
        pub fn subtitle(mut self, subtitle: impl Into<String>) -> Self {
            self.subtitle = Some(subtitle.into());
            self
        }
    };
    (about) => {
        /// What was explained: for the metadata, and where title and subtitle come from by default.
        pub fn about(mut self, about: $crate::metadata::About) -> Self {
            self.about = about;
            self
        }
    };
    (style) => {
        /// How to colour and blend.
        pub fn style(mut self, style: $crate::style::Style) -> Self {
            self.style = style;
            self
        }
    };
    (region) => {
        /// The part of the photograph that the network saw.
        pub fn region(mut self, region: $crate::paint::Region) -> Self {
            self.region = Some(region);
            self
        }
    };
}

pub(crate) use {setter, setters};
