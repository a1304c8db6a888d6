//! Setters that several kinds of pictures have in common.

/// Defines the setters for these fields.
macro_rules! setters {
    ($($field:ident),*) => {
        $($crate::setters::setter!($field);)*
    };
}

/// Defines one setter.
macro_rules! setter {
    (title) => {
        /// Sets the title above the picture, which replaces the default title.
        pub fn title(mut self, title: impl Into<String>) -> Self {
            self.title = Some(title.into());
            self
        }
    };
    (subtitle) => {
        /// Sets the line below the title, which replaces the default line.
        pub fn subtitle(mut self, subtitle: impl Into<String>) -> Self {
            self.subtitle = Some(subtitle.into());
            self
        }
    };
    (about) => {
        /// Sets what was explained. It is stored in the metadata and used for the default title and subtitle.
        pub fn about(mut self, about: $crate::metadata::About) -> Self {
            self.about = about;
            self
        }
    };
    (style) => {
        /// Sets how maps are coloured and blended.
        pub fn style(mut self, style: $crate::style::Style) -> Self {
            self.style = style;
            self
        }
    };
    (region) => {
        /// Sets the part of the photograph that was the network's input.
        pub fn region(mut self, region: $crate::paint::Region) -> Self {
            self.region = Some(region);
            self
        }
    };
}

pub(crate) use {setter, setters};
