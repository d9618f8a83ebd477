//! What the catalogs know of the extension: its routines with their arguments, its views, tables and settings. What is
//! added to the extension is in here by itself.

use postgres::Client;

use super::values::{pick, value};
use crate::ticks::Random;

/// A function or procedure.
struct Routine {
    name: String,
    is_procedure: bool,
    /// Name and type of each argument.
    arguments: Vec<(String, String)>,
    /// How many arguments at the end have defaults.
    defaults: usize,
}

/// A table, with name and type of each column.
struct Table {
    name: String,
    columns: Vec<(String, String)>,
}

/// Everything that SQL can reach.
pub struct Surface {
    routines: Vec<Routine>,
    views: Vec<String>,
    tables: Vec<Table>,
    settings: Vec<String>,
}

/// The tables that roles of the extension write to.
const WRITTEN: &str = "('landing.raw_blobs_5m'), ('signals.btc_embeddings'), ('ops.retention_jobs')";

impl Surface {
    /// Reads the catalogs.
    pub fn read(client: &mut Client) -> Surface {
        let sql = "SELECT format('%I.%I', n.nspname, p.proname), p.prokind = 'p', p.pronargdefaults::int4,
                          coalesce(p.proargnames[1:p.pronargs], '{}'),
                          ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)
                                 ORDER BY a.n)
                     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname IN ('btc_ingest', 'btc_ingest_internal') ORDER BY 1";
        let routine = |row: &postgres::Row| {
            let (names, types): (Vec<String>, Vec<String>) = (row.get(3), row.get(4));
            Routine {
                name: row.get(0),
                is_procedure: row.get(1),
                arguments: names.into_iter().zip(types).collect(),
                defaults: row.get::<_, i32>(2) as usize,
            }
        };
        let routines = client.query(sql, &[]).expect("the functions").iter().map(routine).collect();
        let columns = format!(
            "SELECT t.name, ARRAY(SELECT a.attname::text FROM pg_attribute a
                                   WHERE a.attrelid = t.name::regclass AND a.attnum > 0 ORDER BY a.attnum),
                    ARRAY(SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
                           WHERE a.attrelid = t.name::regclass AND a.attnum > 0 ORDER BY a.attnum)
               FROM (VALUES {WRITTEN}) AS t (name)"
        );
        let table = |row: &postgres::Row| Table {
            name: row.get(0),
            columns: row.get::<_, Vec<String>>(1).into_iter().zip(row.get::<_, Vec<String>>(2)).collect(),
        };
        let tables = client.query(&columns, &[]).expect("the tables").iter().map(table).collect();
        let mut texts = |sql: &str| -> Vec<String> {
            client.query(sql, &[]).expect("a catalog").iter().map(|row| row.get(0)).collect()
        };
        let views = texts(
            "SELECT oid::regclass::text FROM pg_class
              WHERE relkind = 'v' AND relnamespace = 'btc_ingest'::regnamespace",
        );
        let settings =
            texts("SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND context IN ('user', 'superuser')");
        Surface { routines, views, tables, settings }
    }

    /// Returns how many routines, views and tables there are.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.routines.len(), self.views.len(), self.tables.len())
    }

    /// Makes a statement.
    pub fn statement(&self, random: &mut Random) -> String {
        match random.below(100) {
            0..84 => self.call(random),
            84..88 => self.read_view(random),
            88..96 => self.write(random),
            _ => self.call_with_setting(random),
        }
    }

    fn call(&self, random: &mut Random) -> String {
        let routine = &self.routines[random.below(self.routines.len() as u64) as usize];
        let left_out = random.below(routine.defaults as u64 + 1) as usize;
        let given = routine.arguments.len() - left_out;
        let arguments: Vec<String> = routine.arguments[..given].iter().map(|(_, of)| value(random, of)).collect();
        let arguments = arguments.join(", ");
        match (routine.is_procedure, random.below(3)) {
            (true, _) => format!("CALL {}({arguments})", routine.name),
            (false, 0) => format!("SELECT {}({arguments})", routine.name),
            (false, _) => format!("SELECT * FROM {}({arguments})", routine.name),
        }
    }

    fn read_view(&self, random: &mut Random) -> String {
        let view = &self.views[random.below(self.views.len() as u64) as usize];
        let tail = pick(random, &["", "LIMIT 0", "LIMIT 3 OFFSET 1", "ORDER BY 1, 2 DESC", "WHERE v IS NULL"]);
        format!("SELECT * FROM {view} AS v {tail}")
    }

    fn write(&self, random: &mut Random) -> String {
        let table = &self.tables[random.below(self.tables.len() as u64) as usize];
        let mut columns: Vec<&(String, String)> = table.columns.iter().collect();
        // The first columns are those of the contract. What comes behind has defaults.
        let kept = columns.len() as u64 - random.below(columns.len() as u64);
        columns.truncate(kept as usize);
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let values: Vec<String> = columns.iter().map(|(_, of)| value(random, of)).collect();
        let (name, first) = (&table.name, &names[0]);
        match random.below(6) {
            0 => format!("DELETE FROM {name} WHERE {first} = {}", values[0]),
            1 => {
                let at = random.below(names.len() as u64) as usize;
                format!("UPDATE {name} SET {} = {}", names[at], values[at])
            }
            2 => format!(
                "INSERT INTO {name} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
                names.join(", "),
                values.join(", ")
            ),
            _ => format!("INSERT INTO {name} ({}) VALUES ({})", names.join(", "), values.join(", ")),
        }
    }

    /// Sets a setting to anything, calls, and resets it.
    fn call_with_setting(&self, random: &mut Random) -> String {
        let setting = pick(random, &self.settings.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
        let value = pick(
            random,
            &[
                "''",
                "'0'",
                "'-1'",
                "'1'",
                "'2147483647'",
                "'1kB'",
                "'64MB'",
                "'on'",
                "'1us'",
                "'10min'",
                "'-infinity'",
                "'s3://'",
                "E'\\x01'",
            ],
        );
        format!("SET {setting} = {value}; {}; RESET {setting}", self.call(random))
    }
}
