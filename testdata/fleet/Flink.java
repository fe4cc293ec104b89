import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs SQL in Flink, in this process, for the test beside it.
 *
 * <p>Arguments: "batch" or "streaming", and a file with statements that are ended by zero bytes. Of
 * a SELECT the rows are printed that are left at its end, a JSON object a line.
 */
class Flink {
  private static final Pattern SET = Pattern.compile("\\s*SET '([^']+)' = '([^']+)'\\s*");

  public static void main(String[] args) throws Exception {
    Configuration config = new Configuration();
    // A machine that stands still for a while must not end the job.
    for (String patience : List.of("heartbeat.timeout", "pekko.ask.timeout", "slot.request.timeout")) {
      config.setString(patience, "3600000 ms");
    }
    EnvironmentSettings.Builder mode =
        EnvironmentSettings.newInstance().withConfiguration(config);
    TableEnvironment env =
        TableEnvironment.create(
            args[0].equals("batch") ? mode.inBatchMode().build() : mode.inStreamingMode().build());
    env.getConfig().set("parallelism.default", "2");
    for (String statement : Files.readString(Path.of(args[1])).split("\0")) {
      // Comments come before a statement.
      String sql = statement.replaceAll("(?m)^\\s*--.*$", "").strip();
      Matcher set = SET.matcher(sql);
      try {
        if (set.matches()) {
          env.getConfig().set(set.group(1), set.group(2));
        } else if (sql.startsWith("SELECT")) {
          print(env.executeSql(sql));
        } else if (sql.startsWith("EXPLAIN")) {
          env.executeSql(sql).collect().close();
        } else if (sql.startsWith("EXECUTE")) {
          env.executeSql(sql).await();
        } else {
          env.executeSql(sql);
        }
      } catch (Exception e) {
        throw new Exception("by\n" + sql, e);
      }
    }
  }

  private static void print(TableResult result) throws Exception {
    List<String> names = result.getResolvedSchema().getColumnNames();
    Map<String, Integer> rows = new HashMap<>();
    try (CloseableIterator<Row> all = result.collect()) {
      while (all.hasNext()) {
        Row row = all.next();
        boolean comes = row.getKind() == RowKind.INSERT || row.getKind() == RowKind.UPDATE_AFTER;
        rows.merge(json(names, row), comes ? 1 : -1, Integer::sum);
      }
    }
    rows.forEach((row, n) -> System.out.print((row + "\n").repeat(Math.max(0, n))));
  }

  private static String json(List<String> names, Row row) {
    StringBuilder out = new StringBuilder("{");
    for (int i = 0; i < names.size(); i++) {
      Object v = row.getField(i);
      out.append(i > 0 ? "," : "").append('"').append(names.get(i)).append("\":");
      // No text of the test needs an escape.
      out.append(v instanceof String || v instanceof Instant ? "\"" + v + "\"" : v);
    }
    return out.append('}').toString();
  }
}
