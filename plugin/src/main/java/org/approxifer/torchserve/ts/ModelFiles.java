package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import org.approxifer.torchserve.core.Signer;
import org.pytorch.serve.wlm.Model;

/**
 * What the plugin leaves in a model's unpacked directory for its workers. File names carry the
 * JVM's pid, which a worker knows as its parent's: with no-archive models two servers may share one
 * directory.
 */
final class ModelFiles {
  private final Path key;
  private final Path placement;

  ModelFiles(Model model) {
    String name = "approxifer-" + ProcessHandle.current().pid();
    Path folder = model.getModelDir().toPath();
    key = folder.resolve(name + ".key");
    placement = folder.resolve(name + ".placement.json");
  }

  /** Only this user's processes may read the key. */
  void writeKey(Signer signer) throws IOException {
    Files.deleteIfExists(key);
    Files.createFile(
        key, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.writeString(key, signer.key(), StandardOpenOption.TRUNCATE_EXISTING);
  }

  /** GPU by worker id, in one move so that no worker reads half of it. */
  void writePlacement(Map<String, Integer> gpus) throws IOException {
    Path fresh = placement.resolveSibling(placement.getFileName() + ".new");
    Files.writeString(fresh, new Gson().toJson(gpus));
    Files.move(
        fresh, placement, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  void delete() throws IOException {
    Files.deleteIfExists(key);
    Files.deleteIfExists(placement);
  }
}
