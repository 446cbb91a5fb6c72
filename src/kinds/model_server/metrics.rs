//! The numbers of a server's `/metrics`, in Prometheus' text format.

/// The finite values of all series of one name, whatever their labels.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        // A label may hold anything, braces and blanks as well; a time may stand behind the value.
        let value = match rest.as_bytes().first()? {
            b'{' => rest.get(rest.rfind('}')? + 1..)?,
            b' ' | b'\t' => rest,
            _ => return None,
        };
        value.split_ascii_whitespace().next()?.parse().ok().filter(|value: &f64| value.is_finite())
    })
}

/// The sum of a name's series; none if there is no such name.
pub(super) fn sum(text: &str, name: &str) -> Option<f64> {
    values(text, name).reduce(|sum, value| sum + value)
}

/// The largest of a name's series.
pub(super) fn most(text: &str, name: &str) -> Option<f64> {
    values(text, name).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_their_whole_name() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total 3\na_total{m=\"x\",e=\"0\"} 1.5e+03\n\
                    a_total{m=\"a } b\"} 2 1790000000\na_total_created 99\na 50\nb{m=\"x\"} NaN\nb{m=\"y\"} 0.25\nc{ 1\n";
        for (name, total, largest) in [
            ("a_total", Some(1_505.0), Some(1_500.0)),
            ("a", Some(50.0), Some(50.0)),
            ("b", Some(0.25), Some(0.25)),
            ("c", None, None),
            ("d", None, None),
        ] {
            assert_eq!((sum(text, name), most(text, name)), (total, largest), "{name}");
        }
    }
}
