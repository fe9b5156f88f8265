package org.approxifer.torchserve.core;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/** Whether a JSON object has what a record is made of: Gson itself makes up what is missing. */
final class Keys {
  private Keys() {}

  /** Throws a {@link JsonParseException} that names the key, what was expected, and what came. */
  static void check(JsonObject json, Class<?> record) {
    check(json, record, "");
  }

  private static void check(JsonObject json, Class<?> record, String path) {
    for (Field part : record.getDeclaredFields()) {
      if (Modifier.isStatic(part.getModifiers())) {
        continue;
      }
      Class<?> type = part.getType();
      String key = FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES.translateName(part);
      JsonElement found = json.get(key);
      if (found == null || !fits(found, type)) {
        String came = found == null ? "it is missing" : "found " + found;
        throw new JsonParseException(
            "key \"" + path + key + "\": expected " + expected(type) + ", " + came);
      }
      if (type.isRecord()) {
        check(found.getAsJsonObject(), type, path + key + ".");
      }
    }
  }

  private static boolean fits(JsonElement found, Class<?> type) {
    if (type == List.class) {
      return found.isJsonArray();
    } else if (type.isRecord() || type == JsonObject.class) {
      return found.isJsonObject();
    } else if (type == Integer.class && found.isJsonNull()) {
      return true;
    }
    return found instanceof JsonPrimitive value && fits(value, type);
  }

  private static boolean fits(JsonPrimitive value, Class<?> type) {
    if (type.isEnum()) {
      return value.isString() && names(type).contains(value.getAsString());
    } else if (type == boolean.class) {
      return value.isBoolean();
    } else if (type == JsonPrimitive.class) {
      return true;
    }
    return value.isNumber() && (type == double.class || value.getAsDouble() == value.getAsInt());
  }

  private static String expected(Class<?> type) {
    if (type == List.class) {
      return "a list";
    } else if (type.isRecord() || type == JsonObject.class) {
      return "an object";
    } else if (type.isEnum()) {
      return "one of " + String.join(", ", names(type));
    } else if (type == boolean.class) {
      return "true or false";
    } else if (type == JsonPrimitive.class) {
      return "a number or a word such as \"auto\"";
    }
    String number = type == double.class ? "a number" : "a whole number";
    return type == Integer.class ? number + " or null" : number;
  }

  private static List<String> names(Class<?> type) {
    return Stream.of(type.getEnumConstants())
        .map(value -> value.toString().toLowerCase(Locale.ROOT))
        .toList();
  }
}
