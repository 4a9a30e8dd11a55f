package com.example.partner;

import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * A partner's program: send dispenses from a CSV file, watch for held lots, read a lot's dossier.
 *
 * <pre>
 * partner send FILE.csv --to HOST:PORT [--actor NAME] [--batch ROWS]
 * partner watch --to HOST:PORT [--state FILE] [--product KEY] [--count LOTS]
 * partner dossier LOT --to HOST:PORT
 * </pre>
 *
 * Exit status: 0 done, 1 some rows were refused, 2 it could not be done.
 */
public final class Partner {
  private static final String USAGE = "say send FILE, watch or dossier LOT, and --to HOST:PORT";
  private static final Set<String> OPTIONS =
      Set.of("--to", "--actor", "--batch", "--state", "--product", "--count");

  /** What the command line says. */
  record Options(String to, String actor, String state, String product, int batch, int count) {}

  public static void main(String[] arguments) {
    System.setOut(new PrintStream(System.out, true, StandardCharsets.UTF_8));
    int code = 2;
    try {
      code = run(arguments);
    } catch (Calls.Failed | IllegalArgumentException | IOException error) {
      System.err.println("partner: " + error.getMessage());
    }
    System.exit(code);
  }

  private static int run(String[] arguments) throws Calls.Failed, IOException {
    String subject = null;
    Map<String, String> given = new HashMap<>();
    for (int i = 1; i < arguments.length; i++) {
      if (OPTIONS.contains(arguments[i]) && i + 1 < arguments.length) {
        given.put(arguments[i], arguments[++i]);
      } else if (subject == null && !arguments[i].startsWith("--")) {
        subject = arguments[i];
      } else {
        throw new IllegalArgumentException(USAGE);
      }
    }
    String command = arguments.length == 0 ? "" : arguments[0];
    if (!given.containsKey("--to") || (subject == null) != command.equals("watch")) {
      throw new IllegalArgumentException(USAGE);
    }
    Options options =
        new Options(
            given.get("--to"),
            given.getOrDefault("--actor", "partner"),
            given.getOrDefault("--state", "watch.position"),
            given.getOrDefault("--product", ""),
            whole("--batch", given.getOrDefault("--batch", "500"), 1),
            whole("--count", given.getOrDefault("--count", "0"), 0));
    ManagedChannel channel = connect(options.to());
    try {
      return switch (command) {
        case "send" -> new Send(channel, options).run(subject);
        case "watch" -> new Watch(channel, options).run();
        case "dossier" -> new Dossier(channel, options).run(subject);
        default -> throw new IllegalArgumentException(USAGE);
      };
    } finally {
      channel.shutdownNow();
    }
  }

  /** The number that an option gives. */
  private static int whole(String option, String given, int least) throws Calls.Failed {
    int number = given.matches("[0-9]{1,9}") ? Integer.parseInt(given) : -1;
    if (number < least) {
      throw new Calls.Failed(
          "%s %s: no whole number from %d on; give one".formatted(option, given, least));
    }
    return number;
  }

  /** While calls stand open, ask whether anybody is there: a connection may be forgotten on the way. */
  private static ManagedChannel connect(String to) {
    return Grpc.newChannelBuilder(to, InsecureChannelCredentials.create())
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
  }
}
