package com.example.partner;

import com.google.protobuf.Timestamp;
import io.grpc.ManagedChannel;
import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVParser;
import org.apache.commons.csv.CSVPrinter;
import org.apache.commons.csv.CSVRecord;
import pharmaloop.common.v1.Types.FactRefusal;
import pharmaloop.common.v1.Types.Moment;
import pharmaloop.common.v1.Types.Quantity;
import pharmaloop.traceability.v1.Events.DispenseRecorded;
import pharmaloop.traceability.v1.Service.RecordDispenseRequest;
import pharmaloop.traceability.v1.TraceabilityServiceGrpc;
import pharmaloop.traceability.v1.TraceabilityServiceGrpc.TraceabilityServiceBlockingStub;

/** Sends the dispenses of a CSV file: each row has one effect, whatever happens on the way. */
final class Send {
  private static final List<String> COLUMNS =
      List.of("order", "lot", "site", "pseudonym", "at", "quantity", "unit");
  private static final CSVFormat CSV =
      CSVFormat.DEFAULT.builder().setRecordSeparator("\n").setIgnoreEmptyLines(false).get();

  private final TraceabilityServiceBlockingStub stub;
  private final Partner.Options options;

  Send(ManagedChannel channel, Partner.Options options) {
    this.stub = Calls.as(options.actor(), TraceabilityServiceGrpc.newBlockingStub(channel));
    this.options = options;
  }

  /** How far the file was sent: everything up to `rows` was answered, and that is on disk. */
  private record Progress(int rows, int taken, int refused, long rejects) {
    static Progress read(Path path, String digest) throws IOException {
      // One character a byte: what was written there by others is no progress, and no failure.
      String line = Files.exists(path) ? Files.readString(path, StandardCharsets.ISO_8859_1) : "";
      String[] words = line.strip().split(" ");
      if (!line.startsWith(digest) || !line.strip().matches("\\S+( [0-9]{1,9}){4}")) {
        return new Progress(0, 0, 0, 0);
      }
      return new Progress(
          Integer.parseInt(words[1]),
          Integer.parseInt(words[2]),
          Integer.parseInt(words[3]),
          Long.parseLong(words[4]));
    }

    Progress and(int rows, int refused, long rejects) {
      return new Progress(
          this.rows + rows, taken + rows - refused, this.refused + refused, rejects);
    }

    byte[] line(String digest) {
      String line = "%s %d %d %d %d\n".formatted(digest, rows, taken, refused, rejects);
      return line.getBytes(StandardCharsets.UTF_8);
    }
  }

  /** Why a row, by its number from 1, was not taken. */
  private record Refusal(int number, String reason, String field, String description) {}

  /** A row that cannot be read. */
  private static final class Unreadable extends Exception {
    final String reason;
    final String field;

    Unreadable(String reason, String field, String description) {
      super(description);
      this.reason = reason;
      this.field = field;
    }
  }

  int run(String file) throws Calls.Failed, IOException {
    Path source = Path.of(file);
    Path progressFile = Path.of(file + ".progress");
    Path rejectsFile = Path.of(file + ".rejects.csv");
    String name = source.getFileName().toString();
    if (!Files.isRegularFile(source)) {
      throw new Calls.Failed(file + ": no such file; give the path of a CSV file");
    }
    byte[] data = Files.readAllBytes(source);
    List<Map<String, String>> rows = readRows(name, text(name, data));
    // Whom it was sent to, by whom, and what: sent to a sandbox, it is not sent to the platform.
    byte[] sender = (options.to() + "\n" + options.actor() + "\n").getBytes(StandardCharsets.UTF_8);
    String digest = sha256(ByteBuffer.allocate(sender.length + data.length).put(sender).put(data).array());
    Progress progress = Progress.read(progressFile, digest);
    if (0 < progress.rows() && progress.rows() < rows.size()) {
      System.out.printf("%s: going on after row %d%n", name, progress.rows());
    }
    try (FileChannel rejects = openRejects(rejectsFile, progress)) {
      while (progress.rows() < rows.size()) {
        int end = Math.min(progress.rows() + options.batch(), rows.size());
        List<Refusal> refused = sendBatch(rows.subList(progress.rows(), end), progress.rows());
        // What was refused first, then that these rows are done: a kill in between loses nothing.
        long size = writeRejects(rejects, refused, rows);
        progress = progress.and(end - progress.rows(), refused.size(), size);
        Calls.writeWhole(progressFile, progress.line(digest));
      }
    }
    String where = progress.refused() > 0 ? " (" + rejectsFile.getFileName() + ")" : "";
    System.out.printf(
        "%s: %d rows, %d taken, %d refused%s%n",
        name, progress.rows(), progress.taken(), progress.refused(), where);
    return progress.refused() > 0 ? 1 : 0;
  }

  /** Send the rows that come after so many others; answers those that were not taken. */
  private List<Refusal> sendBatch(List<Map<String, String>> batch, int before) throws Calls.Failed {
    RecordDispenseRequest.Builder request =
        RecordDispenseRequest.newBuilder().setRequestId(requestId(batch));
    List<Integer> sent = new ArrayList<>();
    List<Refusal> refused = new ArrayList<>();
    int number = before;
    for (Map<String, String> row : batch) {
      number++;
      try {
        request.addDispenses(dispense(row, options.actor()));
        sent.add(number);
      } catch (Unreadable no) {
        refused.add(new Refusal(number, no.reason, no.field, no.getMessage()));
      }
    }
    if (!sent.isEmpty()) {
      RecordDispenseRequest asked = request.build();
      var receipt = Calls.call(stub, one -> one.recordDispense(asked)).getReceipt();
      for (FactRefusal no : receipt.getRefusedList()) {
        String field = no.getField().replaceFirst("^[^.]*\\]\\.?", "");
        refused.add(
            new Refusal(sent.get(no.getIndex()), no.getReason(), field, no.getDescription()));
      }
    }
    refused.sort(Comparator.comparingInt(Refusal::number));
    return refused;
  }

  private static DispenseRecorded dispense(Map<String, String> row, String actor)
      throws Unreadable {
    DispenseRecorded.Builder record =
        DispenseRecorded.newBuilder()
            .setOrder(row.get("order"))
            .setLot(row.get("lot"))
            .setSite(row.get("site"))
            .setPseudonym(row.get("pseudonym"))
            .setSource(actor);
    try {
      OffsetDateTime at = OffsetDateTime.parse(row.get("at"));
      record.setAt(
          Moment.newBuilder()
              .setAt(Timestamp.newBuilder().setSeconds(at.toEpochSecond()).setNanos(at.getNano()))
              .setOffsetMinutes(at.getOffset().getTotalSeconds() / 60));
    } catch (DateTimeParseException error) {
      throw new Unreadable("NOT_A_MOMENT", "at", "write it as 2026-03-12T09:30:00+08:00");
    }
    if (!row.get("quantity").isEmpty()) {
      double value = Double.NaN;
      try {
        value = Double.parseDouble(row.get("quantity"));
      } catch (NumberFormatException error) {
        // Not a number, as said below.
      }
      if (!Double.isFinite(value)) {
        throw new Unreadable("NOT_A_NUMBER", "quantity", "write it as 28 or 7.5");
      }
      record.setQuantity(Quantity.newBuilder().setValue(value).setUnit(row.get("unit")));
    }
    return record.build();
  }

  /** The same rows have the same id, in every run: a request that is sent again is known by it. */
  private static String requestId(List<Map<String, String>> rows) {
    List<String> lines = new ArrayList<>();
    for (Map<String, String> row : rows) {
      lines.add(String.join("\u001f", COLUMNS.stream().map(row::get).toList()));
    }
    byte[] cells = String.join("\u001e", lines).getBytes(StandardCharsets.UTF_8);
    return "dispenses-" + sha256(cells).substring(0, 32);
  }

  private static String sha256(byte[] data) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  /** The file as text; it fails at the first line that is not UTF-8. */
  private static String text(String name, byte[] data) throws Calls.Failed {
    ByteBuffer from = ByteBuffer.wrap(data);
    CharBuffer to = CharBuffer.allocate(data.length);
    CoderResult end = StandardCharsets.UTF_8.newDecoder().decode(from, to, true);
    if (end.isError()) {
      int line = 1;
      for (int at = 0; at < from.position(); at++) {
        line += data[at] == '\n' ? 1 : 0;
      }
      throw new Calls.Failed(
          "%s, line %d: not UTF-8; save the file as UTF-8, and send it again".formatted(name, line));
    }
    String text = to.flip().toString();
    return text.startsWith("\ufeff") ? text.substring(1) : text;
  }

  /** A row of the file: the line that it begins at, and its cells. */
  private record Line(long number, List<String> cells) {}

  /** The rows; it fails at the line that breaks a rule, and nothing of the file is sent. */
  private static List<Map<String, String>> readRows(String name, String text)
      throws Calls.Failed, IOException {
    String first = "the first line names " + String.join(",", COLUMNS);
    List<Line> lines = lines(name, text);
    if (lines.isEmpty()) {
      throw new Calls.Failed("%s, line 1: the file is empty; %s".formatted(name, first));
    }
    Line head = lines.get(0);
    List<String> missing = new ArrayList<>(COLUMNS);
    missing.removeAll(head.cells());
    if (!missing.isEmpty()) {
      throw new Calls.Failed(
          "%s, line %d: no column %s; %s"
              .formatted(name, head.number(), String.join(", ", missing), first));
    }
    List<String> twice =
        COLUMNS.stream().filter(one -> Collections.frequency(head.cells(), one) > 1).toList();
    if (!twice.isEmpty()) {
      throw new Calls.Failed(
          "%s, line %d: column %s twice; %s, each once"
              .formatted(name, head.number(), String.join(", ", twice), first));
    }
    List<Map<String, String>> rows = new ArrayList<>();
    for (Line line : lines.subList(1, lines.size())) {
      if (line.cells().size() != head.cells().size()) {
        throw new Calls.Failed(
            "%s, line %d: %d cells where the first line has %d; mend the row, and send the file again"
                .formatted(name, line.number(), line.cells().size(), head.cells().size()));
      }
      if (line.cells().stream().allMatch(String::isEmpty)) {
        throw new Calls.Failed(
            "%s, line %d: every cell is empty; remove the row, and send the file again"
                .formatted(name, line.number()));
      }
      Map<String, String> row = new HashMap<>();
      COLUMNS.forEach(column -> row.put(column, line.cells().get(head.cells().indexOf(column))));
      rows.add(row);
    }
    return rows;
  }

  /** What the lines of the file say; blank ones are passed over. */
  private static List<Line> lines(String name, String text) throws Calls.Failed, IOException {
    List<Line> lines = new ArrayList<>();
    long number = 1;
    try (CSVParser parser = CSVParser.parse(new StringReader(text), CSV)) {
      for (CSVRecord record : parser) {
        List<String> cells = record.stream().map(String::strip).toList();
        if (record.size() > 1 || !record.get(0).isEmpty()) {
          lines.add(new Line(number, cells));
        }
        number = parser.getCurrentLineNumber() + 1;
      }
    } catch (UncheckedIOException error) {
      throw new Calls.Failed(
          ("%s, line %d: a quoted cell is not closed, or goes on behind its quotation mark; "
                  + "write a mark inside a cell twice, and send the file again")
              .formatted(name, number));
    }
    return lines;
  }

  /** The rejects as they were when the progress was written: what came later is written again. */
  private static FileChannel openRejects(Path path, Progress progress) throws IOException {
    if (progress.rows() == 0 || !Files.exists(path)) {
      Files.writeString(path, "row,reason,field,description," + String.join(",", COLUMNS) + "\n");
      return FileChannel.open(path, StandardOpenOption.APPEND);
    }
    try (FileChannel file = FileChannel.open(path, StandardOpenOption.WRITE)) {
      file.truncate(progress.rejects());
    }
    return FileChannel.open(path, StandardOpenOption.APPEND);
  }

  private static long writeRejects(
      FileChannel file, List<Refusal> refused, List<Map<String, String>> rows) throws IOException {
    StringWriter text = new StringWriter();
    try (CSVPrinter printer = new CSVPrinter(text, CSV)) {
      for (Refusal no : refused) {
        List<Object> cells =
            new ArrayList<>(List.of(no.number(), no.reason(), no.field(), no.description()));
        Map<String, String> row = rows.get(no.number() - 1);
        COLUMNS.forEach(column -> cells.add(row.get(column)));
        printer.printRecord(cells);
      }
    }
    ByteBuffer left = StandardCharsets.UTF_8.encode(text.toString());
    while (left.hasRemaining()) {
      file.write(left);
    }
    file.force(true);
    return file.size();
  }
}
