//! Names near to one that does not exist.

/// The name that was probably meant, if one is near enough: a slip of a letter for every three that were written, or another case.
pub(crate) fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let length = wanted.chars().count();
    let most = (length / 3).clamp(1, 3);
    names
        .into_iter()
        // Two names whose lengths differ by more are further apart than that, and need not be compared.
        .filter(|name| name.chars().count().abs_diff(length) <= most)
        .map(|name| (strsim::osa_distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most && *distance < length)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["orders", "order-events", "payments", "Flights", "x"];

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let meant = |wanted| near(wanted, NAMES);
        assert_eq!(meant("ordrs"), Some("orders"), "a letter is missing");
        assert_eq!(meant("orderss"), Some("orders"), "one is too many");
        assert_eq!(meant("oredrs"), Some("orders"), "two are swapped");
        assert_eq!(meant("flights"), Some("Flights"), "the case differs");
        assert_eq!(meant("paymnets"), Some("payments"));
        for other in ["delete-records", "inventory", "y", "", "orders-of-last-year"] {
            assert_eq!(meant(other), None, "{other}");
        }
    }

    #[test]
    fn the_nearest_is_told_and_ties_are_broken_by_name() {
        assert_eq!(near("orderz", ["ordexz", "orders", "order"]), Some("order"));
        assert_eq!(near("abcdef", ["abcdez", "abcdey"]), Some("abcdey"));
    }
}
