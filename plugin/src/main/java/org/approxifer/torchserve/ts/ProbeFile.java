package org.approxifer.torchserve.ts;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.approxifer.torchserve.core.KnownQuery;
import org.pytorch.serve.util.messages.InputParameter;

/** Reads the known query of an archive, {@code probe.json} and the files it names. */
final class ProbeFile {
  private static final String NAME = "approxifer/probe.json";

  private ProbeFile() {}

  /** Returns the probe of an unpacked archive, or null if it has none. */
  static KnownQuery read(Path folder) throws IOException {
    Path file = folder.resolve(NAME);
    if (!Files.isRegularFile(file)) {
      return null;
    }
    try {
      JsonObject json = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
      Map<String, String> headers = new HashMap<>();
      for (Map.Entry<String, JsonElement> header : json.getAsJsonObject("headers").entrySet()) {
        headers.put(header.getKey(), header.getValue().getAsString());
      }
      List<InputParameter> parameters = new ArrayList<>();
      for (JsonElement element : json.getAsJsonArray("parameters")) {
        JsonObject parameter = element.getAsJsonObject();
        parameters.add(
            new InputParameter(
                parameter.get("name").getAsString(),
                Files.readAllBytes(inside(folder, parameter.get("file").getAsString())),
                parameter.get("content_type").getAsString()));
      }
      Path prediction = inside(folder, json.get("prediction").getAsString());
      return new KnownQuery(headers, parameters, Files.readAllBytes(prediction));
    } catch (IllegalStateException | NullPointerException e) {
      throw new JsonParseException(NAME + " is not what was expected: " + e.getMessage(), e);
    }
  }

  private static Path inside(Path folder, String name) throws IOException {
    Path file = folder.resolve(name).toRealPath();
    if (!file.startsWith(folder.toRealPath())) {
      throw new JsonParseException(NAME + " names a file outside the archive: " + name);
    }
    return file;
  }
}
