//! Which column of a file holds which tick column, by the columns' names. No column of a file is taken twice, unless
//! the options say so.

use crate::model::options::{LoadOptions, REQUIRED_COLUMNS, TICK_COLUMNS};

/// Binance's short names of the tick columns in trade events. Some names differ by case only (`t` and `T`).
const SHORT_NAMES: [&str; 9] = ["E", "T", "s", "t", "p", "q", "b", "a", "m"];
/// The number of the trade id and of the order ids in [`TICK_COLUMNS`].
const TRADE_ID: usize = 3;
const ORDER_IDS: [usize; 2] = [6, 7];
/// The short names without which a file is not in Binance's short form: price and quantity.
const SIGNATURE: [&str; 2] = ["p", "q"];
/// Binance's short names of the aggregate's id, and of the first and the last trade id, in events of aggregate trades.
const AGGREGATE_SHORT: [&str; 3] = ["a", "f", "l"];

/// The file's column for a tick column: its index, `None` if the file has none, or what is wrong.
pub(super) type Found = Result<Option<usize>, String>;

/// The names of a file's columns, and what they say about the file.
pub(super) struct Names<'a> {
    columns: Vec<&'a str>,
    /// Whether the file is in Binance's short form, so that short names count.
    is_short: bool,
}

impl<'a> Names<'a> {
    /// A file is in the short form if it has the columns `p` and `q`, and no column with a tick column's full name.
    pub fn of(columns: Vec<&'a str>) -> Self {
        let is_full = |name: &&str| TICK_COLUMNS.iter().any(|full| name.eq_ignore_ascii_case(full));
        let is_short = SIGNATURE.iter().all(|name| columns.contains(name)) && !columns.iter().any(is_full);
        Names { columns, is_short }
    }

    /// Returns the columns that show that each row stands for several trades. Returns `None` if no column does.
    pub fn aggregate_columns(&self) -> Option<Vec<&'a str>> {
        let plain = |name: &str| name.to_ascii_lowercase().replace('_', "");
        let like = |wanted: &[&str]| self.columns.iter().copied().find(|name| wanted.contains(&plain(name).as_str()));
        if let (Some(first), Some(last)) = (like(&["firsttradeid"]), like(&["lasttradeid"])) {
            return Some(vec![first, last]);
        }
        if let Some(id) = like(&AGGREGATE_ID) {
            return Some(vec![id]);
        }
        let [_, first, last] = AGGREGATE_SHORT;
        let has_both = self.columns.contains(&first) && self.columns.contains(&last);
        (self.is_short && has_both).then(|| vec![first, last])
    }

    /// Finds the column of each tick column: by the name in the options, else by its own name, else by its short name
    /// if the file is in the short form.
    pub fn find(&self, options: &LoadOptions) -> [Found; 9] {
        let mut search = Search { names: self, taken: vec![None; self.columns.len()] };
        let mut found = [const { Ok(None) }; 9];
        let is_wanted = |tick: usize| TICK_COLUMNS[tick] != "symbol" || options.symbol.is_none();
        for tick in (0..9).filter(|tick| is_wanted(*tick)) {
            if let Some(Some(name)) = options.columns.get(TICK_COLUMNS[tick]) {
                found[tick] = search.mapped(tick, name);
            }
        }
        let aggregates = options.aggregate_trades && self.aggregate_columns().is_some();
        for tick in (0..9).filter(|tick| is_wanted(*tick)) {
            if !options.columns.contains_key(TICK_COLUMNS[tick]) {
                found[tick] = search.by_name(tick, aggregates);
            }
        }
        found
    }
}

/// Names of an aggregate's own id, in lower case and without underscores.
const AGGREGATE_ID: [&str; 2] = ["aggtradeid", "aggregatetradeid"];

/// A search that notes which columns are taken.
struct Search<'a> {
    names: &'a Names<'a>,
    /// The tick column that each column of the file is read as.
    taken: Vec<Option<&'static str>>,
}

impl Search<'_> {
    /// Takes the column that the options give for a tick column. The options may give one column to several tick
    /// columns, for example the only time of a file.
    fn mapped(&mut self, tick: usize, name: &str) -> Found {
        let shown: String = name.chars().take(100).collect();
        let Some(column) = self.named(name)? else {
            return Err(format!("is mapped to \"{shown}\", which the file does not have"));
        };
        Ok(self.take(tick, column))
    }

    /// Takes the column that has a name of the tick column and is not taken yet.
    fn by_name(&mut self, tick: usize, aggregates: bool) -> Found {
        let full = TICK_COLUMNS[tick];
        let mut read_as = None;
        for name in std::iter::once(full).chain(self.other_name(tick, aggregates)) {
            let Some(column) = self.named(name)? else { continue };
            match self.taken[column] {
                None => return Ok(self.take(tick, column)),
                Some(other) => read_as = Some((self.names.columns[column], other)),
            }
        }
        match read_as {
            _ if !REQUIRED_COLUMNS.contains(&full) => Ok(None),
            Some((name, other)) => Err(format!("is missing: \"{name}\" is read as {other}")),
            None => Err("is missing".into()),
        }
    }

    /// Returns the other name that a tick column may have in this file.
    fn other_name(&self, tick: usize, aggregates: bool) -> Option<&str> {
        if aggregates && ORDER_IDS.contains(&tick) {
            return None;
        }
        if aggregates && tick == TRADE_ID && !self.names.is_short {
            let is_id = |name: &&&str| AGGREGATE_ID.contains(&name.to_ascii_lowercase().replace('_', "").as_str());
            return self.names.columns.iter().find(is_id).copied();
        }
        let short = if aggregates && tick == TRADE_ID { AGGREGATE_SHORT[0] } else { SHORT_NAMES[tick] };
        self.names.is_short.then_some(short)
    }

    fn take(&mut self, tick: usize, column: usize) -> Option<usize> {
        self.taken[column] = Some(TICK_COLUMNS[tick]);
        Some(column)
    }

    /// Finds the column of this name. An exact match has priority; otherwise case is ignored, except for one-letter
    /// names.
    fn named(&self, name: &str) -> Found {
        let columns = &self.names.columns;
        let matches = |is_match: &dyn Fn(&str) -> bool| -> Found {
            let found: Vec<usize> = (0..columns.len()).filter(|index| is_match(columns[*index])).collect();
            match found[..] {
                [] => Ok(None),
                [only] => Ok(Some(only)),
                _ => {
                    let names: Vec<String> = found.iter().take(5).map(|at| format!("\"{}\"", columns[*at])).collect();
                    Err(format!("is ambiguous: the file has {}", names.join(" and ")))
                }
            }
        };
        match matches(&|column| column == name)? {
            None if name.len() > 1 => matches(&|column| column.eq_ignore_ascii_case(name)),
            found => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRADE: [&str; 11] = ["e", "E", "s", "t", "p", "q", "b", "a", "T", "m", "M"];
    const AGGREGATE: [&str; 11] = ["e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"];
    const FULL: [&str; 6] = ["event_time", "symbol", "trade_id", "price", "quantity", "is_market_maker"];

    fn options(columns: &[(&'static str, Option<&str>)]) -> LoadOptions {
        let columns = columns.iter().map(|(tick, file)| (*tick, file.map(str::to_owned))).collect();
        LoadOptions { columns, ..LoadOptions::default() }
    }

    /// Returns the column of each tick column, or what is wrong with it.
    fn found(file: &[&str], options: &LoadOptions) -> Vec<String> {
        let text = |found: Found| match found {
            Ok(column) => column.map_or("-", |column| file[column]).to_owned(),
            Err(problem) => problem,
        };
        Names::of(file.to_vec()).find(options).into_iter().map(text).collect()
    }

    #[test]
    fn short_names_count_in_a_file_of_short_names_only() {
        assert_eq!(found(&TRADE, &options(&[])), SHORT_NAMES);
        // ask and bid beside the full names
        let quotes = [&FULL[..], &["a", "b"]].concat();
        let expected = ["event_time", "-", "symbol", "trade_id", "price", "quantity", "-", "-", "is_market_maker"];
        assert_eq!(found(&quotes, &options(&[])), expected);
        // … or beside other names, which the options give
        let other = ["ts", "sym", "id", "px", "sz", "a", "b", "m"];
        let given = options(&[
            ("event_time", Some("ts")),
            ("symbol", Some("sym")),
            ("trade_id", Some("id")),
            ("price", Some("px")),
            ("quantity", Some("sz")),
        ]);
        assert_eq!(found(&other, &given), ["ts", "-", "sym", "id", "px", "sz", "-", "-", "-"]);
        // One full name is enough: the rest of the file is not Binance's.
        let mixed = ["event_time", "s", "t", "p", "q"];
        assert_eq!(found(&mixed, &options(&[]))[2..6], ["is missing"; 4]);
    }

    #[test]
    fn no_column_is_taken_twice_unless_the_options_say_so() {
        let file = ["E", "s", "a", "p", "q", "b", "m"];
        let by_a = found(&file, &options(&[("trade_id", Some("a"))]));
        assert_eq!(by_a, ["E", "-", "s", "a", "p", "q", "b", "-", "m"]);
        let both = options(&[("event_time", Some("trade_time")), ("trade_time", Some("Trade_Time"))]);
        let file = ["trade_time", "symbol", "trade_id", "price", "quantity"];
        assert_eq!(found(&file, &both)[..2], ["trade_time"; 2], "the options say so");
        assert_eq!(found(&file, &options(&[("event_time", Some("trade_time"))]))[..2], ["trade_time", "-"]);
        let stolen = found(&file, &options(&[("event_time", Some("trade_time")), ("quantity", Some("price"))]));
        assert_eq!(stolen[4], "is missing: \"price\" is read as quantity");
    }

    #[test]
    fn a_column_can_be_left_out() {
        let left_out = options(&[("seller_order_id", None), ("buyer_order_id", None)]);
        assert_eq!(found(&TRADE, &left_out)[6..], ["-", "-", "m"]);
    }

    #[test]
    fn aggregate_trades_are_recognised() {
        let shows = |file: &[&'static str]| Names::of(file.to_vec()).aggregate_columns();
        assert_eq!(shows(&AGGREGATE), Some(vec!["f", "l"]));
        let long = ["agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time"];
        assert_eq!(shows(&long), Some(vec!["first_trade_id", "last_trade_id"]));
        assert_eq!(shows(&["firstTradeId", "lastTradeId", "price"]), Some(vec!["firstTradeId", "lastTradeId"]));
        assert_eq!(shows(&["AggTradeId", "price"]), Some(vec!["AggTradeId"]));
        assert_eq!(shows(&TRADE), None);
        assert_eq!(shows(&[&FULL[..], &["f", "l", "first_trade_id"]].concat()), None);
    }

    #[test]
    fn aggregate_trades_have_the_id_of_the_aggregate() {
        let wanted = LoadOptions { aggregate_trades: true, ..LoadOptions::default() };
        assert_eq!(found(&AGGREGATE, &wanted), ["E", "T", "s", "a", "p", "q", "-", "-", "m"]);
        assert_eq!(found(&TRADE, &wanted), SHORT_NAMES, "these are single trades");
        let long = ["event_time", "symbol", "agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"];
        assert_eq!(found(&long, &wanted)[3], "agg_trade_id");
    }
}
