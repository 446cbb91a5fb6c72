//! Cards and their names: a card keeps the number that it was first seen under, so that one that is gone doesn't hand its
//! name, its streak and its incident to its neighbour.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clean;
use crate::facts::Subject;
use crate::host::nvml::{Card, Pci, Trouble};
use crate::redact::Clean;

/// A card as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The number in its name.
    number: usize,
    /// Where the driver listed it last.
    index: usize,
    uuid: String,
    name: Option<String>,
    pci: Option<[u32; 3]>,
}

impl Known {
    pub fn subject(&self) -> Subject {
        Subject::new(&format!("gpu{}", self.number))
    }
    pub fn pci(&self) -> Option<Pci> {
        self.pci.map(|[domain, bus, device]| Pci { domain, bus, device })
    }
    /// What a person knows it by.
    pub fn shown(&self) -> Clean {
        match &self.name {
            Some(name) => clean!("{name}, {}", self.uuid),
            None => Clean::line(&self.uuid, 96),
        }
    }
}

/// Which cards there have to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wanted<'a> {
    /// Those of the last time.
    Remembered,
    /// So many.
    Count(usize),
    /// These, by their uuids or the beginnings of them.
    Named(&'a [String]),
}

/// A card under its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<'a> {
    pub subject: Subject,
    pub is: Is<'a>,
    /// What was known of it before.
    pub known: Option<Known>,
}

impl Placed<'_> {
    /// Its place on the bus, as it says or as it is remembered.
    pub fn pci(&self) -> Option<Pci> {
        match &self.is {
            Is::There(card) => card.pci,
            Is::Troubled(_) | Is::Gone => self.known.as_ref().and_then(Known::pci),
        }
    }
}

/// How a card is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Is<'a> {
    /// It answers.
    There(&'a Card),
    /// The driver lists it, and it does not answer.
    Troubled(&'a Trouble),
    /// The driver does not list it any more.
    Gone,
}

/// All cards under their names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Roll<'a> {
    pub cards: Vec<Placed<'a>>,
    /// How many more there have to be, of which nothing is known.
    pub short: usize,
    /// What to remember.
    pub known: Vec<Known>,
}

/// Calls the roll.
pub(super) fn call<'a>(seen: &'a [Result<Card, Trouble>], before: &[Known], wanted: Wanted<'_>) -> Roll<'a> {
    let mut left: Vec<Known> = before.to_vec();
    let mut roll = Roll { cards: Vec::new(), short: 0, known: Vec::new() };
    let mut new = Vec::new();
    let mut troubled = Vec::new();
    for (index, card) in seen.iter().enumerate() {
        match card {
            Ok(card) if !is_wanted(card, wanted) => {}
            Ok(card) => match take(&mut left, |known| known.uuid == uuid(card, index)) {
                Some(known) => roll.add(known.number, index, card, Some(known)),
                None => new.push((index, card)),
            },
            Err(trouble) => troubled.push((index, trouble)),
        }
    }
    // A card that does not answer tells no uuid: it is the one that was there, else one of those that are missing.
    let mut unnamed = Vec::new();
    for (index, trouble) in troubled {
        match take(&mut left, |known| known.index == index).or_else(|| take(&mut left, |_| true)) {
            Some(known) => roll.keep(known, Is::Troubled(trouble)),
            None => unnamed.push((index, trouble)),
        }
    }
    let there = roll.cards.len() + new.len() + unnamed.len();
    let missing = match wanted {
        Wanted::Remembered => usize::MAX,
        Wanted::Count(count) => count.saturating_sub(there),
        Wanted::Named(names) => {
            left.retain(|known| names.iter().any(|name| known.uuid.starts_with(name)));
            usize::MAX
        }
    };
    if let Wanted::Count(_) = wanted {
        roll.short = missing.saturating_sub(left.len());
    }
    for known in left.into_iter().take(missing) {
        roll.keep(known, Is::Gone);
    }
    for (index, card) in new {
        let number = roll.free_number(index);
        roll.add(number, index, card, None);
    }
    for (index, trouble) in unnamed {
        let subject = Subject::new(&format!("gpu{}", roll.free_number(index)));
        roll.cards.push(Placed { subject, is: Is::Troubled(trouble), known: None });
    }
    if let Wanted::Named(names) = wanted {
        for name in names {
            if !roll.known.iter().any(|known| known.uuid.starts_with(name)) {
                roll.cards.push(Placed { subject: Subject::new(name), is: Is::Gone, known: None });
            }
        }
    }
    roll.known.sort_by_key(|known| known.number);
    roll
}

impl<'a> Roll<'a> {
    fn add(&mut self, number: usize, index: usize, card: &'a Card, known: Option<Known>) {
        let pci = card.pci.map(|pci| [pci.domain, pci.bus, pci.device]);
        let name = card.name.as_ref().map(|name| name.as_str().to_owned());
        let now = Known { number, index, uuid: uuid(card, index), name, pci };
        self.cards.push(Placed { subject: now.subject(), is: Is::There(card), known });
        self.known.push(now);
    }

    fn keep(&mut self, known: Known, is: Is<'a>) {
        self.known.push(known.clone());
        self.cards.push(Placed { subject: known.subject(), is, known: Some(known) });
    }

    /// The driver's own number where nobody has it, else the first free one.
    fn free_number(&self, index: usize) -> usize {
        let taken: BTreeSet<&Subject> = self.cards.iter().map(|placed| &placed.subject).collect();
        let free = |number: &usize| !taken.contains(&Subject::new(&format!("gpu{number}")));
        // Of one number more than are taken, one is free.
        std::iter::once(index).chain(0..=taken.len()).find(free).unwrap_or(index)
    }
}

fn take(from: &mut Vec<Known>, which: impl Fn(&Known) -> bool) -> Option<Known> {
    let at = from.iter().position(which)?;
    Some(from.remove(at))
}

/// A card without a uuid is known by its place in the list.
fn uuid(card: &Card, index: usize) -> String {
    card.uuid.as_ref().map_or_else(|| format!("the driver's number {index}"), |uuid| uuid.as_str().to_owned())
}

fn is_wanted(card: &Card, wanted: Wanted<'_>) -> bool {
    match wanted {
        Wanted::Named(names) => {
            names.iter().any(|name| card.uuid.as_ref().is_some_and(|uuid| uuid.as_str().starts_with(name)))
        }
        Wanted::Remembered | Wanted::Count(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the driver's list has them")]
    fn card(uuid: &str) -> Result<Card, Trouble> {
        Ok(Card { uuid: Some(Clean::new(uuid)), ..Card::default() })
    }

    /// The names and states of a roll, and what is remembered of it.
    fn called(seen: &[Result<Card, Trouble>], before: &[Known], wanted: Wanted<'_>) -> (String, Vec<Known>) {
        let roll = call(seen, before, wanted);
        let mut words: Vec<String> = roll
            .cards
            .iter()
            .map(|placed| {
                let is = match &placed.is {
                    Is::There(card) => card.uuid.as_ref().unwrap().as_str().to_owned(),
                    Is::Troubled(_) => "troubled".to_owned(),
                    Is::Gone => "gone".to_owned(),
                };
                format!("{} {is}", placed.subject)
            })
            .collect();
        words.sort();
        words.extend((roll.short > 0).then(|| format!("{} short", roll.short)));
        (words.join(", "), roll.known)
    }

    #[test]
    fn a_card_keeps_its_number() {
        let all = Wanted::Remembered;
        let (first, known) = called(&[card("A"), card("B"), card("C")], &[], all);
        assert_eq!(first, "gpu0 A, gpu1 B, gpu2 C");
        for (seen, words) in [
            (vec![card("B"), card("C")], "gpu0 gone, gpu1 B, gpu2 C"),
            (vec![card("C"), card("A"), card("B")], "gpu0 A, gpu1 B, gpu2 C"),
            (vec![card("A"), Err(Trouble::Lost), card("C")], "gpu0 A, gpu1 troubled, gpu2 C"),
            (vec![Err(Trouble::Lost), card("A"), card("C")], "gpu0 A, gpu1 troubled, gpu2 C"),
            (vec![card("A"), card("B"), card("C"), card("D")], "gpu0 A, gpu1 B, gpu2 C, gpu3 D"),
            (vec![card("D"), card("B"), card("C")], "gpu0 gone, gpu1 B, gpu2 C, gpu3 D"),
            (vec![], "gpu0 gone, gpu1 gone, gpu2 gone"),
        ] {
            assert_eq!(called(&seen, &known, all).0, words);
        }
        // What is gone is still missed the next time.
        let (_, after) = called(&[card("B")], &known, all);
        assert_eq!(called(&[card("B")], &after, all).0, "gpu0 gone, gpu1 B, gpu2 gone");
    }

    #[test]
    fn a_number_of_cards_or_their_names_count_more_than_memory() {
        let (_, known) = called(&[card("A"), card("B")], &[], Wanted::Remembered);
        assert_eq!(called(&[card("B")], &known, Wanted::Count(1)).0, "gpu1 B");
        assert_eq!(called(&[card("B")], &known, Wanted::Count(2)).0, "gpu0 gone, gpu1 B");
        assert_eq!(called(&[card("B")], &known, Wanted::Count(4)).0, "gpu0 gone, gpu1 B, 2 short");
        assert_eq!(called(&[], &known, Wanted::Count(0)), (String::new(), Vec::new()));
        // Once it is no longer wanted, its number is free.
        let (_, after) = called(&[card("B")], &known, Wanted::Count(1));
        assert_eq!(called(&[card("D"), card("B")], &after, Wanted::Remembered).0, "gpu0 D, gpu1 B");
        let names = ["A".to_owned(), "X".to_owned()];
        assert_eq!(called(&[card("Abc"), card("B")], &[], Wanted::Named(&names)).0, "X gone, gpu0 Abc");
        assert_eq!(called(&[card("B")], &known, Wanted::Named(&names)).0, "X gone, gpu0 gone");
    }

    #[test]
    fn a_card_in_trouble_that_nobody_knows_is_named_all_the_same() {
        let seen = [card("A"), Err(Trouble::Lost)];
        assert_eq!(called(&seen, &[], Wanted::Remembered).0, "gpu0 A, gpu1 troubled");
    }
}
